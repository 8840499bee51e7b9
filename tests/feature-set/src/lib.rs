//! No code: one set of features for each dependency (`tests/feature_set.py` says why).
