//! The decisions of `docs/genesys-flow.md`: each row of its table is sent to the real server, and a flow decides by the answer.

use serde_json::Value;

use crate::process::{Server, get, post};

const PAGE: &str = include_str!("../../docs/genesys-flow.md");

/// Where a data action comes out, and where the flow goes from there.
fn decide(response: &str) -> (&'static str, &'static str) {
    let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    if !head.starts_with("HTTP/1.1 200 ") {
        return ("failure", "default block");
    }
    let answer: Value = serde_json::from_str(body).expect("JSON");
    let skill = answer["skill_id"].as_str().expect("a text in every answer");
    let priority = answer["priority"].as_i64().expect("a number in every answer");
    if answer["use_default_routing"].as_bool().expect("a truth value in every answer") {
        return ("success", "default block");
    }
    assert!(!skill.is_empty() && priority >= 0, "{body}");
    ("success", "takes skill and priority")
}

#[test]
fn a_flow_decides_as_the_page_says() {
    let server = Server::start_with(
        &std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models"),
        &[("SCORELINE__STORE__PATH", ":memory:")],
    );
    let mut rows = 0;
    for line in PAGE.lines().filter(|line| line.starts_with("| ") && line.contains("`{")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [case, sends, outcome, flow] = cells[..] else { panic!("four cells: {line}") };
        let answer = post(&server.listen, "/v1/genesys/route", sends.trim_matches('`'));
        assert_eq!(decide(&answer), (outcome, flow), "{case}: {answer}");
        rows += 1;
    }
    assert!(rows >= 9, "{rows} rows");
    for wrong in [get(&server.listen, "/v1/genesys/route"), post(&server.listen, "/v1/genesys/routes", "{}")] {
        assert_eq!(decide(&wrong), ("failure", "default block"), "{wrong}");
    }
}
