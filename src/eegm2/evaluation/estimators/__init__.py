"""The family behind other libraries' signatures: scikit-learn and braindecode."""
