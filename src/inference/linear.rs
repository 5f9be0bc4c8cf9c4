//! Linear models: scoreline's own JSON (hurdle, regression, logistic).
