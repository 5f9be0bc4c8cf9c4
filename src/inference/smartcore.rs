//! Forests and boosted trees serialised by smartcore.
