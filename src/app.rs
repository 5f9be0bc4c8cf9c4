//! The composition root: configuration becomes services, services become a router. The only file that sees every module.
