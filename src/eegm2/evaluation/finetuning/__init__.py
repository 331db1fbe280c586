"""The work of ``eegm2 finetune``: a pretrained network and a head learnt together, kept as a run."""
