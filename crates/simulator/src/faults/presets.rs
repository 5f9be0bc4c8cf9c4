//! Plans that come with the simulator.

/// Name, what it is for, and the plan itself.
pub const PRESETS: [(&str, &str, &str); 6] = [
    ("rough", "a bad day: a little of everything", ROUGH),
    ("limits", "429 in all its forms, and the token endpoint's 400", LIMITS),
    ("outage", "the first fifty requests are answered with 503", OUTAGE),
    ("jobs", "jobs that fail, expire and never end", JOBS),
    ("paging", "query pages that repeat rows and totals that move", PAGING),
    ("hostile", "redirects, huge answers, pages for people", HOSTILE),
];

const ROUGH: &str = r#"
[[fault]]
path = "/oauth/token"
kind = "token_rate_limit"
on = [2]

[[fault]]
path = "/api/**"
kind = "too_many_requests"
retry_after_secs = 2
probability = 0.01

[[fault]]
path = "/api/**"
kind = "status"
status = 503
probability = 0.01

[[fault]]
path = "/api/**"
kind = "status"
status = 504
probability = 0.005
applied = true

[[fault]]
path = "/api/**"
kind = "cut"
probability = 0.005
applied = true

[[fault]]
path = "/api/**"
kind = "slow"
delay_ms = 1500
probability = 0.01

[[fault]]
path = "/api/**"
kind = "token_expired"
probability = 0.002

[[fault]]
path = "/api/v2/analytics/conversations/details/jobs"
method = "POST"
kind = "job_expired"
probability = 0.05

[[fault]]
path = "/api/v2/analytics/conversations/details/query"
kind = "repeat_rows"
rows = 3
probability = 0.2
"#;

const LIMITS: &str = r#"
[[fault]]
path = "/oauth/token"
kind = "token_rate_limit"
on = [1]

[[fault]]
path = "/api/**"
kind = "too_many_requests"
retry_after_secs = 3
every = 10

[[fault]]
path = "/api/**"
kind = "too_many_requests"
retry_after = "date"
retry_after_secs = 3
every = 17

[[fault]]
path = "/api/**"
kind = "too_many_requests"
retry_after = "missing"
limit_key = "details.jobs.rate.per.second"
every = 23
"#;

const OUTAGE: &str = r#"
[[fault]]
path = "/api/**"
kind = "status"
status = 503
times = 50
"#;

const JOBS: &str = r#"
[[fault]]
path = "/api/v2/analytics/conversations/details/jobs"
method = "POST"
kind = "job_failed"
every = 3

[[fault]]
path = "/api/v2/analytics/conversations/details/jobs/*/results"
kind = "job_expired"
every = 7

[[fault]]
path = "/api/v2/analytics/conversations/details/jobs"
method = "POST"
kind = "job_stuck"
every = 5
"#;

const PAGING: &str = r#"
[[fault]]
path = "/api/v2/analytics/conversations/details/query"
kind = "repeat_rows"
rows = 7
every = 2

[[fault]]
path = "/api/v2/analytics/conversations/details/query"
kind = "moving_total"
rows = 4
"#;

const HOSTILE: &str = r#"
[[fault]]
path = "/api/**"
kind = "redirect"
every = 5

[[fault]]
path = "/api/**"
kind = "wrong_content_type"
every = 7

[[fault]]
path = "/api/**"
kind = "oversized"
bytes = 268435456
every = 11
"#;
