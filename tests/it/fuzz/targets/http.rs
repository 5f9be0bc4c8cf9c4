//! Request bodies and headers through the real router, over the shipped models.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use scoreline::http::{WidgetAccess, WidgetSettings};
use scoreline::monitoring::book::PredictionLimits;
use scoreline::monitoring::{MonitoringSettings, WindowSettings};
use scoreline_engine::inference::registry::Patience;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::{Feed, root};
use crate::support::test_app::{Kept, Reply, WidgetPieces, privacy};
use crate::support::{TestApp, TestBundle};

const DOCUMENTED: &str = r#"{"features":{"recency_days":12,"frequency_count":48,"avg_handling_time_sec":245,"sentiment_score_avg":0.65,"topic_diversity":7},"model_version":"v1.2","request_id":"req-998877"}"#;

/// The router with everything behind it. `open` makes one for each thread.
pub struct Subject {
    pub runtime: tokio::runtime::Runtime,
    pub app: TestApp,
    _ledger: TempDir,
}

impl Subject {
    pub fn open() -> Self {
        let ledger = tempfile::tempdir().expect("temporary folder");
        let limits = PredictionLimits { predictions: 1000, outcomes: 1000, window: 100, sample_every: 0 };
        let windows = WindowSettings { length: Duration::from_hours(24), least_rows: 100, most_rows: 1000 };
        let settings = MonitoringSettings { windows, ledger: Some(limits), replay: None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let kept = runtime.block_on(Kept::open(ledger.path(), &settings));
        let app = TestApp::keeping(&[], |_| {}, &privacy("test pepper", &[]), &kept);
        copy(&root().join("models"), app.models.path());
        app.registry.scan(Patience::Now);
        assert_eq!(app.registry.all_serving().len(), 3, "the shipped models serve");
        Self { runtime, app, _ledger: ledger }
    }

    fn send(&self, request: Request<Body>) -> Reply {
        // Scores age, windows close, outcomes mature.
        self.app.clock.advance(Duration::from_secs(30));
        self.runtime.block_on(self.app.send(request))
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("temporary folder is writable");
    for entry in fs::read_dir(from).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copied");
        }
    }
}

/// Feeds bodies to one endpoint.
pub fn post(path: &'static str) -> Feed {
    let subject = Subject::open();
    Box::new(move |body| {
        let request = Request::post(path).header("content-type", "application/json").body(Body::from(body.to_vec()));
        promised(path, &subject.send(request.expect("a request")));
    })
}

/// Feeds messages of gRPC to the call that asks a model.
pub fn infer_call() -> Feed {
    let subject = Subject::open();
    Box::new(move |message| {
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
        let body = Body::from([&[0], length.as_slice(), message].concat());
        let request =
            Request::post("/inference.GRPCInferenceService/ModelInfer").header("content-type", "application/grpc");
        let router = subject.app.public.router().clone();
        let response =
            subject.runtime.block_on(router.oneshot(request.body(body).expect("a request"))).expect("answered");
        assert_eq!(response.status(), StatusCode::OK);
        // INTERNAL is said when something broke here.
        assert!(response.headers().get("grpc-status").is_none_or(|status| status != "13"), "{:?}", response.headers());
    })
}

/// Feeds a first line with method and path, and headers below it, beside a good body.
pub fn headers() -> Feed {
    let subject = Subject::open();
    Box::new(move |input| {
        let mut lines = input.split(|byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default();
        let (method, path) = first.split_at(first.iter().position(|byte| *byte == b' ').unwrap_or(first.len()));
        let method = Method::from_bytes(method).unwrap_or(Method::POST);
        let path = std::str::from_utf8(path.trim_ascii()).unwrap_or_default();
        let Ok(mut request) = Request::builder().method(method).uri(path).body(Body::from(DOCUMENTED)) else { return };
        for line in lines {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default().trim_ascii());
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                request.headers_mut().append(name, value);
            }
        }
        let path = request.uri().path().to_owned();
        promised(&path, &subject.send(request));
    })
}

/// Feeds queries to the agent's page, and languages of a browser below them.
pub fn widget() -> Feed {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let settings = WidgetSettings { access: WidgetAccess::Conversation, ..WidgetPieces::default().settings };
    let app = TestApp::paged_with(&[TestBundle::clv("v1.2")], &WidgetPieces { settings, ..WidgetPieces::default() });
    let asked = r#"{"customer_id":"C-1","conversation_id":"talk-1","recency_days":30,"frequency_count":10}"#;
    assert_eq!(runtime.block_on(app.post("/v1/genesys/clv", asked)).status, 200);
    Box::new(move |input| {
        let (query, languages) = input.split_at(input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len()));
        let Ok(uri) = Uri::try_from([b"/widget?", query].concat()) else { return };
        let mut request = Request::get(uri).body(Body::empty()).expect("a request");
        if let Ok(value) = HeaderValue::from_bytes(languages.trim_ascii()) {
            request.headers_mut().insert("accept-language", value);
        }
        let Reply { status, headers, text } = runtime.block_on(app.send(request));
        assert!([200, 403].contains(&status.as_u16()), "{status}: {text}");
        assert!(headers.contains_key("content-security-policy"), "{headers:?}");
        assert!(text.starts_with("<!doctype html>") && text.ends_with("</body></html>\n"), "{text}");
        let (_, body) = text.split_once("</style>").expect("styles");
        for tag in body.split('<').skip(1) {
            let name =
                tag.trim_start_matches('/').split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
            assert!(TAGS.contains(&name), "<{name} in {body}");
        }
    })
}

/// What the body of the agent's page is made of.
const TAGS: [&str; 17] = [
    "head", "body", "html", "main", "h1", "h2", "div", "p", "a", "svg", "line", "rect", "text", "ul", "li", "span",
    "footer",
];

/// What every reply promises, whatever was asked.
fn promised(path: &str, reply: &Reply) {
    let Reply { status, headers, text } = reply;
    assert!(status.as_u16() < 500, "{path}: {status}: {text}");
    assert!(headers.contains_key("x-request-id"), "{path}: {status} without a request id");
    if path == "/health/live" || path == "/health/ready" || text.is_empty() {
        return;
    }
    if path.starts_with("/v2") {
        return promised_of_inference(path, *status, text);
    }
    for line in text.lines().filter(|line| !line.is_empty()) {
        let answer: Value = serde_json::from_str(line).unwrap_or_else(|err| panic!("{path}: {err}: {line}"));
        whole(&answer, path);
        if !status.is_success() {
            let error = &answer["error"];
            // Data actions get it flat.
            let (code, message) = if error.is_null() {
                (&answer["reason"], &answer["message"])
            } else {
                (&error["code"], &error["message"])
            };
            assert_eq!(answer["status"], "error", "{path}: {line}");
            assert!(code.is_string() && message.is_string(), "{path}: {line}");
        }
    }
    if path.starts_with("/v1/genesys/") && !matches!(status.as_u16(), 404 | 405) {
        assert_eq!(status.as_u16(), 200, "{path} always answers 200: {text}");
    }
}

/// As the Open Inference Protocol has it: an error is a text, and every output has an element for each row.
fn promised_of_inference(path: &str, status: StatusCode, text: &str) {
    let answer: Value = serde_json::from_str(text).unwrap_or_else(|err| panic!("{path}: {err}: {text}"));
    if status.is_success() {
        for output in answer["outputs"].as_array().into_iter().flatten().filter(|output| output["data"].is_array()) {
            assert_eq!(
                output["data"].as_array().map(Vec::len).map(|rows| json!([rows, 1])),
                Some(output["shape"].clone())
            );
        }
    } else {
        assert!(answer["error"].is_string() && answer["code"].is_string(), "{path}: {text}");
    }
}

/// Nothing is `null`, and a prediction lies in its interval.
fn whole(answer: &Value, path: &str) {
    match answer {
        Value::Null => panic!("{path}: a `null` in an answer"),
        Value::Array(items) => items.iter().for_each(|item| whole(item, path)),
        Value::Object(fields) => {
            let number = |name: &str| fields.get(name).and_then(Value::as_f64);
            if let (Some(low), Some(value), Some(high)) =
                (number("confidence_interval_low"), number("clv_value_usd"), number("confidence_interval_high"))
            {
                assert!(0.0 <= low && low <= value && value <= high, "{path}: {low} <= {value} <= {high}");
            }
            for name in ["risk_score", "confidence_score", "conversion_probability"] {
                assert!(number(name).is_none_or(|share| (0.0..=1.0).contains(&share)), "{path}: `{name}`: {answer}");
            }
            assert!(number("priority_score").is_none_or(|place| (1.0..=100.0).contains(&place)), "{path}: {answer}");
            fields.values().for_each(|value| whole(value, path));
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub fn clv_seeds() -> Vec<Vec<u8>> {
    texts(&[
        DOCUMENTED,
        r#"{"customerId":"CUST-12345","features":{"recency_days":12,"frequency_count":48,"avg_handling_time_sec":245,"sentiment_score_avg":0.65,"sentiment_trend_slope":0.02,"topic_diversity":7,"channel_preference_email":1,"channel_preference_voice":0},"timestamp_utc":"2023-10-27T14:30:00Z"}"#,
        r#"{"features":{"recency_days":12,"frequency_count":4,"purchase_count":3,"tenure_days":200,"monetary_avg":51.5,"purchase_recency_days":20},"acquisition_channel":"referral","segment":"loyal","explain":true,"interval_level":0.8,"previous_tier":"High_Value"}"#,
        r#"{"model":"clv-purchases","features":{"recency_days":12.5,"purchase_count":3,"tenure_days":200,"monetary_avg":51.5},"explain":true}"#,
        r#"{"features":{"frequency_count":0},"acquisition_channel":"organic"}"#,
        r#"{"customerId":"CUST-12345","features":{"recency_days":3,"frequency_count":48,"topic_diversity":null}}"#,
        r#"{"customerId":"CUST-12345"}"#,
    ])
}

pub fn infer_seeds() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"id":"r1","inputs":[{"name":"recency_days","shape":[2,1],"datatype":"FP32","data":[[12],[30.5]]},{"name":"frequency_count","shape":[2],"datatype":"INT64","data":[48,10]},{"name":"customer_id","shape":[2],"datatype":"BYTES","data":["C-1",""]}],"outputs":[{"name":"clv_value_usd","parameters":{"binary_data":false}},{"name":"clv_tier"}],"parameters":{"priority":1,"timeout":500000,"explain":true,"interval_level":0.8,"acquisition_channel":"referral"}}"#,
        r#"{"model_name":"clv","inputs":[{"name":"frequency_count","shape":[1],"datatype":"UINT8","data":[0]},{"name":"sentiment_score_avg","shape":[1],"datatype":"FP64","data":[null]}]}"#,
        r#"{"inputs":[],"parameters":{"customer_id":"CUST-12345"}}"#,
    ])
}

/// As `tritonclient` and `kserve` send them.
pub fn infer_call_seeds() -> Vec<Vec<u8>> {
    let raw = b"\n\x03clv\x1a\x02r1\"\x10\n\x07timeout\x12\x05\x10\xc0\x96\xb1\x02\"\r\n\x07explain\x12\x02\x08\x00\"\x0e\n\x08priority\x12\x02(\x01*\x18\n\x0crecency_days\x12\x04FP32\x1a\x02\x02\x01*\x1c\n\x0ffrequency_count\x12\x05INT64\x1a\x02\x02\x012\n\n\x08clv_tier2\x0f\n\rclv_value_usd:\x08\x00\x00\xf0A\x00\x00@A:\x10\n\x00\x00\x00\x00\x00\x00\x000\x00\x00\x00\x00\x00\x00\x00";
    let lists = b"\n\x03clv\x1a\x02k1*$\n\x0crecency_days\x12\x04FP64\x1a\x02\x01\x01*\n:\x08\x00\x00\x00\x00\x00\x00>@*!\n\x0ffrequency_count\x12\x05INT64\x1a\x02\x01\x01*\x03\x1a\x01\n";
    vec![raw.to_vec(), lists.to_vec()]
}

pub fn lead_seeds() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"leadId":"L-1","features":{"age":40,"campaign":1,"cons.conf.idx":-36.4,"cons.price.idx":93.994,"contact":"cellular","day_of_week":"mon","default":"no","education":"basic.9y","emp.var.rate":1.1,"euribor3m":4.858,"housing":"yes","job":"admin.","loan":"no","marital":"married","month":"may","nr.employed":5191,"pdays":999,"poutcome":"nonexistent","previous":0},"lead_source":"referral","explain":true}"#,
        r#"{"leadId":"L-1","features":{"age":60,"cons.conf.idx":-36.4,"cons.price.idx":93.9,"emp.var.rate":-1.8,"nr.employed":5099.1,"euribor3m":1.3,"contact":null,"previous":5},"request_id":"r-1","timestamp_utc":"2023-10-27T14:30:00Z"}"#,
        r#"{"leadId":"L-2","lead_source":"referral"}"#,
    ])
}

pub fn clv_batch_seeds() -> Vec<Vec<u8>> {
    batches(&clv_seeds())
}

pub fn lead_batch_seeds() -> Vec<Vec<u8>> {
    batches(&lead_seeds())
}

pub fn flat_seeds() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"customerId":"CUST-12345","recency_days":"12","frequency_count":48,"avg_handling_time_sec":"245","sentiment_score_avg":0.65,"topic_diversity":"","acquisition_channel":null,"request_id":"req-998877"}"#,
        r#"{"customerId":"${input.customerId}","recency_days":12,"frequency_count":0,"acquisition_channel":"referral","previous_tier":"Low_Value","interval_level":"0.9"}"#,
    ])
}

pub fn flat_lead_seeds() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"leadId":"L-1","age":"40","campaign":"1","cons.conf.idx":-36.4,"cons.price.idx":"93.994","contact":"cellular","emp.var.rate":1.1,"euribor3m":"4.858","job":"admin.","month":"may","nr.employed":5191,"pdays":999,"previous":"","lead_source":null}"#,
        r#"{"leadId":"L-2","age":"$!{age}","lead_source":"referral"}"#,
    ])
}

pub fn outcome_seeds() -> Vec<Vec<u8>> {
    let one = r#"{"customerId":"C-1","actual_spend_usd":12.5,"observed_at":"2026-03-01T00:00:00Z","prediction":{"clv_value_usd":20.0,"confidence_interval_low":0.0,"confidence_interval_high":50.0,"interval_level":0.9,"risk_score":0.4,"confidence_score":0.8,"clv_tier":"Low_Value","model_version":"v1.2","scored_at":"2026-01-01T00:00:00Z","horizon_days":30}}"#;
    let other =
        r#"{"customerId":"CUST-12345","actual_spend_usd":0,"observed_at":"2026-11-01T00:00:00Z","model":"clv"}"#;
    texts(&[one, other, &format!("{one}\n{other}\n"), &format!("[{one},{other}]")])
}

pub fn header_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "POST /v1/predict/clv\ncontent-type: application/json\nx-request-id: abc-1\ncontent-length: 200\naccept: */*\n",
        "POST /v1/route/tier\nauthorization: Bearer abc.def.ghi\nx-deadline-ms: 200\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n",
        "GET /health/ready\nhost: localhost\nexpect: 100-continue\ntransfer-encoding: chunked\n",
        "POST /v2/models/clv/versions/v1.2/infer\ninference-header-content-length: 200\ncontent-encoding: deflate\n",
        "DELETE /v1/genesys/clv?x=1\ncontent-encoding: gzip\nx-forwarded-for: 10.0.0.1\n",
    ])
}

pub fn widget_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "conversation=talk-1&lang=de-CH\nfr-CH, fr;q=0.9, en;q=0.8\n",
        "conversation=11111111-2222-4333-8444-555555555555\nes\n",
        "t=AdI3c6QAAAAAa8mYgAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHB&lang=es\n*\n",
        "lang=%22%3E%3Cscript%3E&t=\"><script>\n",
    ])
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// As lines and as an array.
fn batches(rows: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let array = [b"[".as_slice(), &rows.join(&b','), b"]"].concat();
    vec![rows.join(&b'\n'), array]
}

#[test]
fn every_seed_is_a_good_request() {
    let subject = Subject::open();
    let seeds: [(&str, Vec<Vec<u8>>); 8] = [
        ("/v2/models/clv/infer", infer_seeds()),
        ("/v1/predict/clv", clv_seeds()),
        ("/v1/predict/clv/batch", clv_batch_seeds()),
        ("/v1/predict/lead", lead_seeds()),
        ("/v1/predict/lead/batch", lead_batch_seeds()),
        ("/v1/genesys/clv", flat_seeds()),
        ("/v1/genesys/lead", flat_lead_seeds()),
        ("/v1/outcomes", outcome_seeds()),
    ];
    let mut refused = Vec::new();
    for (path, seed) in seeds.iter().flat_map(|(path, seeds)| seeds.iter().map(move |seed| (path, seed))) {
        let reply = subject.send(Request::post(*path).body(Body::from(seed.clone())).expect("a request"));
        if !reply.status.is_success() || reply.text.contains(r#""error""#) {
            refused.push(format!("{path}: {}: {}", seed.escape_ascii(), reply.text));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
