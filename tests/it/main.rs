//! Tests through the public face of the program, one module per area.

#![expect(unreachable_pub, reason = "nothing is outside of a test")]

mod always_answer;
mod auth;
mod auth_cli;
mod auth_issuers;
mod auth_providers;
mod auth_tokens;
mod by_id;
mod by_id_store;
mod candidates;
mod config;
mod data_actions;
mod deploy;
#[path = "../../crates/genesys/tests/it/desk.rs"]
mod desk;
mod documents;
mod explanations;
mod exported_actions;
mod features_cli;
mod first_hour;
mod flow;
mod fuzz;
mod genesys_cli;
mod grafana;
#[path = "../../crates/store/tests/it/ground.rs"]
mod ground;
mod http_api;
mod identifiers;
mod known_facts;
mod later;
mod lead_api;
mod leads;
mod leaks;
mod listener;
mod many_customers;
mod model_files;
mod model_gate;
mod model_probe;
mod model_storm;
mod model_swap;
mod monitoring;
mod oip;
mod one_answer;
mod openapi;
mod operator;
mod pace;
mod platform_settings;
mod privacy;
mod process;
mod purchases;
mod replay;
mod replicas;
mod request_log;
mod rotation;
mod routes;
mod score_arrow;
mod score_files;
#[path = "../../crates/store/tests/it/small_disk.rs"]
mod small_disk;
mod soak;
mod store_trouble;
mod stored;
mod support;
mod tidy;
mod tls;
mod traces;
mod widget;
mod worker;
mod wrong_exports;
