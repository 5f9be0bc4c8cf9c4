//! Every state in every language.

use scoreline_domain::{ModelName, ModelVersion};

use super::*;
use crate::http::page::StatusCode;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn fresh() -> GivenAnswer {
    GivenAnswer {
        score: GivenScore::Clv {
            value: 101.9,
            interval: Some((0.0, 351.2, 0.9)),
            tier: Tier::High,
            tier_probability: Some(0.83),
            low_confidence: false,
            horizon_days: Some(273),
            limits: Some((29.91, 93.32)),
        },
        source: Source::Model,
        model: ModelName::parse("clv").expect("a name"),
        version: ModelVersion::parse("v1.2").expect("a version"),
        scored_at: at("2026-11-28T09:57:00Z"),
        features_as_of: Some(at("2026-11-27T00:00:00Z")),
        is_old_history: false,
        baseline: None,
        row: None,
    }
}

fn baseline(level: &str, name: &str) -> GivenBaseline {
    GivenBaseline { level: level.to_owned(), name: name.to_owned() }
}

fn unsure(answer: GivenAnswer, share: Option<f64>) -> GivenAnswer {
    let mut answer = answer;
    if let GivenScore::Clv { tier_probability, low_confidence, .. } = &mut answer.score {
        (*tier_probability, *low_confidence) = (share, true);
    }
    answer
}

/// Each state by its word.
fn answers() -> Vec<(&'static str, GivenAnswer)> {
    let new = |level, name| GivenAnswer { source: Source::ColdStart, baseline: Some(baseline(level, name)), ..fresh() };
    let lead = |priority, probability| GivenAnswer { score: GivenScore::Lead { priority, probability }, ..fresh() };
    vec![
        ("fresh", fresh()),
        ("low_confidence", unsure(fresh(), Some(0.28))),
        ("low_confidence", unsure(fresh(), None)),
        ("cold_start", unsure(new("channel", "web_search"), Some(0.5))),
        ("cold_start", new("segment", "<b>retail</b>")),
        ("nothing_known", new(NEUTRAL, "")),
        ("stale", GivenAnswer { source: Source::StaleCache, ..fresh() }),
        ("stale", GivenAnswer { is_old_history: true, ..fresh() }),
        ("fallback", GivenAnswer { source: Source::Fallback, baseline: Some(baseline("channel", "web")), ..fresh() }),
        ("fresh", lead(94, 0.31)),
        ("fresh", lead(1, 0.001)),
        (
            "cold_start",
            GivenAnswer { source: Source::ColdStart, baseline: Some(baseline("lead_source", "web")), ..lead(40, 0.1) },
        ),
    ]
}

fn reasons() -> Vec<ShownReason> {
    [("48 contacts in a year", 68.28), ("<i>topics</i>", -27.33), ("nothing much", 0.2), ("tone", 19.1), ("more", 9.0)]
        .map(|(words, amount)| ShownReason { words: words.to_owned(), amount })
        .to_vec()
}

fn drawn(language: Language, view: &AgentView<'_>) -> AgentPage {
    AgentPage::new(language, view, "/widget?t=x&lang=\"de\"", at("2026-11-28T10:00:00Z"))
}

fn text_of(page: &AgentPage) -> &str {
    &page.body.0
}

#[test]
fn every_state_is_written_in_every_language() {
    for language in Language::ALL {
        for (state, answer) in answers() {
            let view = AgentView::Answer(ShownAnswer { answer: &answer, reasons: reasons() });
            let page = drawn(language, &view);
            let text = text_of(&page);
            assert_eq!(page.state, state, "{language:?} {text}");
            assert!(
                !text.contains(['{', '}']) && !text.contains("<b>") && !text.contains("<i>"),
                "{language:?} {text}"
            );
            assert!(text.starts_with("<main ") && text.ends_with("</main>"), "{text}");
            assert!(text.matches("class=\"flag\"").count() <= MOST_FLAGS, "{text}");
        }
        for notice in [Notice::Erased, Notice::Unknown, Notice::Expired, Notice::NotFramed] {
            let page = drawn(language, &AgentView::Notice(notice));
            let text = text_of(&page);
            assert!(text.contains("class=\"empty\"") && text.ends_with("</main>"), "{text}");
            assert_eq!(
                text.contains("href=\"/widget?t=x&amp;lang=&quot;de&quot;\""),
                notice == Notice::Unknown,
                "{text}"
            );
        }
        let response =
            drawn(language, &AgentView::Notice(Notice::Unknown)).page("https://x.example").respond(StatusCode::OK);
        assert_eq!(response.status(), StatusCode::OK);
    }
}

#[test]
fn a_score_is_told_by_word_number_range_and_reasons() {
    let answer = unsure(fresh(), Some(0.28));
    let view = AgentView::Answer(ShownAnswer { answer: &answer, reasons: reasons() });
    let page = drawn(Language::English, &view);
    let text = text_of(&page);
    for told in [
        "High value",
        ">$102<",
        "expected spend in the next 9 months",
        "90 in 100 such customers spend between $0 and $351",
        "medium from $30 · high from $93",
        "the tier is right in 28 of 100 such cases",
        "48 contacts in a year</span><span class=\"up\"><span aria-hidden=\"true\">▲ </span>raises $68<",
        "&lt;i&gt;topics&lt;/i&gt;</span><span class=\"down\"><span aria-hidden=\"true\">▼ </span>lowers $27<",
        "calculated 3\u{a0}min ago · history up to 27\u{a0}Nov",
    ] {
        assert!(text.contains(told), "{told} in {text}");
    }
    assert_eq!(text.matches("<li>").count(), MOST_REASONS);
    assert!(text.contains("tone") && !text.contains("nothing much") && !text.contains("more"), "{text}");
}

#[test]
fn a_lead_is_told_by_what_to_do_and_its_place() {
    let told = |priority, probability, text: &str| {
        let answer = GivenAnswer { score: GivenScore::Lead { priority, probability }, ..fresh() };
        let page = drawn(Language::English, &AgentView::Answer(ShownAnswer { answer: &answer, reasons: Vec::new() }));
        assert!(text_of(&page).contains(text), "{text} in {}", text_of(&page));
    };
    told(94, 0.31, "Call first</p><p class=\"sub\">better than 93 of 100 leads");
    told(80, 0.31, "Call first");
    told(79, 0.31, "Call soon");
    told(70, 0.31, "Call in turn");
    told(30, 0.31, "Call last");
    told(1, 0.001, "Call last</p><p class=\"sub\">fewer than 1 of 100 such leads convert");
    told(94, 0.31, "about 31 of 100 such leads convert");
}
