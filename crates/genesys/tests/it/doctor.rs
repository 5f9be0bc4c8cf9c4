//! The doctor finds nothing wrong with what the export writes, and says each thing that somebody may have done otherwise.

use std::sync::Arc;
use std::time::Duration;

use scoreline_domain::time::{Clock, Timestamp};
use scoreline_genesys::Genesys;
use scoreline_genesys::doctor::{Doctor, Examination, Finding, Verdict};
use scoreline_genesys::outbound::campaign::CampaignPlan;
use scoreline_genesys::settings::{ContactWriteMode, OutboundSettings};
use scoreline_simulator::{ContactTally, FaultPlan, PlatformClock, SimulatorSettings};
use serde_json::{Value, json};

use super::desk::{Desk, small};

const SENIOR: &str = "6a1f0d2e-0000-4000-8000-000000000051";
const HIGH: &str = "6a1f0d2e-0000-4000-8000-000000000052";
const RULES: &str = "6a1f0d2e-0000-4000-8000-000000000061";
const FILTER: &str = "6a1f0d2e-0000-4000-8000-000000000062";
const COLUMNS: [(&str, &str); 4] =
    [("leadId", "TEXT"), ("Cell", "TEXT"), ("ml_score", "NUMERIC"), ("ml_last_calculated_at", "TIMESTAMP")];

/// An organisation as the export makes it, with one lead.
struct Organisation {
    desk: Desk,
    list: String,
    campaign: String,
    wanted: Examination,
}

fn plan() -> CampaignPlan {
    CampaignPlan {
        name: "Leads".to_owned(),
        phone_column: "Cell".to_owned(),
        columns: OutboundSettings::default(),
        senior_skill: Some(SENIOR.to_owned()),
        high_value_skill: Some(HIGH.to_owned()),
        skip_stale: false,
    }
}

fn organisation() -> Organisation {
    organisation_with(small())
}

fn organisation_with(settings: SimulatorSettings) -> Organisation {
    let mut desk = Desk::open(settings);
    let simulator = &desk.simulator;
    let (list, campaign) = (simulator.contact_list().to_string(), simulator.campaign().to_string());
    simulator.put_contact(&list, "L1", [("leadId", "L1"), ("Cell", "+15555550100")]);
    simulator.set_rule_set(RULES, plan().rule_set());
    for skill in [SENIOR, HIGH] {
        simulator.set_skill(skill, json!({ "id": skill, "name": "a skill", "state": "active" }));
    }
    desk.settings.outbound.contact_lists = vec![list.clone()];
    let wanted = Examination { campaign: Some(campaign.clone()), probe: false };
    let organisation = Organisation { desk, list, campaign, wanted };
    organisation.campaign_is(json!({}));
    organisation
}

impl Organisation {
    /// The exported campaign, with these fields otherwise.
    fn campaign_is(&self, other: Value) {
        let mut fields = plan().campaign();
        fields["ruleSets"] = json!([{ "id": RULES }]);
        fields["contactList"] = json!({ "id": self.list });
        fields["campaignStatus"] = json!("on");
        let Value::Object(other) = other else { panic!("fields") };
        for (name, value) in other {
            fields[name] = value;
        }
        self.desk.simulator.set_campaign(&self.campaign, fields);
    }

    fn rules_are(&self, rules: &Value) {
        self.desk.simulator.set_rule_set(RULES, json!({ "id": RULES, "name": "rules", "rules": rules }));
    }

    fn faults(&self, plan: &str) {
        self.desk.simulator.set_faults(FaultPlan::parse(plan).expect("a plan"));
    }

    fn contacts(&self) -> Vec<String> {
        self.desk.simulator.contacts(&self.list).into_keys().collect()
    }

    async fn findings(&self) -> Vec<Finding> {
        self.findings_of(self.desk.client().doctor()).await
    }

    async fn findings_of(&self, mut doctor: Doctor) -> Vec<Finding> {
        doctor.examine(&self.wanted).await;
        doctor.findings()
    }

    /// All that is not as it should be: each has this verdict and says this, with this fix.
    async fn only(&self, verdict: Verdict, says: &str, fix: &str) {
        let findings = self.findings().await;
        let odd: Vec<_> = findings.iter().filter(|finding| finding.verdict != Verdict::Fine).collect();
        assert!(!odd.is_empty(), "`{says}` is not found: {findings:#?}");
        for finding in odd {
            let is_fixed = if fix.is_empty() {
                finding.fix.is_none()
            } else {
                finding.fix.as_ref().is_some_and(|own| own.contains(fix))
            };
            assert!(finding.verdict == verdict && finding.says.contains(says) && is_fixed, "`{says}`: {finding:#?}");
        }
    }

    async fn is_healthy(&self) -> Vec<Finding> {
        let findings = self.findings().await;
        let odd: Vec<_> = findings.iter().filter(|finding| finding.verdict != Verdict::Fine).collect();
        assert!(odd.is_empty(), "{odd:#?}");
        findings
    }
}

fn rule(name: &str, conditions: &[(&str, &str)]) -> Value {
    let condition = |(operator, value): &(&str, &str)| {
        json!({ "type": "contactAttributeCondition", "attributeName": "ml_score", "operator": operator, "value": value,
                "valueType": "NUMERIC" })
    };
    json!({
        "name": name,
        "category": "DIALER_PRECALL",
        "conditions": conditions.iter().map(condition).collect::<Vec<_>>(),
        "actions": [{ "type": "Action", "actionTypeName": "SET_SKILLS", "properties": { "skills": json!([HIGH]).to_string() } }],
    })
}

#[tokio::test]
async fn nothing_is_wrong_with_what_the_export_writes() {
    let organisation = organisation();
    let findings = organisation.is_healthy().await;
    let about: Vec<_> = findings.iter().map(|finding| finding.about.split(' ').next().expect("a word")).collect();
    let expected = [vec!["access", "clock", "limits"], vec!["list"; 4], vec!["campaign"; 6]].concat();
    assert_eq!(about, expected, "{findings:#?}");
    assert!(findings.iter().any(|finding| finding.says.starts_with("1 of 1 contacts")), "{findings:#?}");
    assert_eq!(organisation.desk.simulator.contact_tally(), ContactTally::default(), "nothing is written");
    assert_eq!(organisation.contacts(), ["L1"]);
}

#[tokio::test]
async fn a_list_that_cannot_hold_scores() {
    let new = "make a new one";
    let mut organisation = organisation();
    let list = organisation.list.clone();
    let columns = |columns: &[(&str, &str)]| organisation.desk.simulator.set_list(&list, columns);
    columns(&COLUMNS[..3]);
    organisation.only(Verdict::Wrong, "it has no column `ml_last_calculated_at`", new).await;
    let mut text = COLUMNS;
    text[2].1 = "TEXT";
    columns(&text);
    organisation.only(Verdict::Wrong, "`ml_score` is TEXT, not NUMERIC", new).await;
    let many: Vec<String> = (0..47).map(|number| format!("column {number}")).collect();
    let many: Vec<_> = COLUMNS.into_iter().chain(many.iter().map(|name| (name.as_str(), "TEXT"))).collect();
    columns(&many);
    organisation.only(Verdict::Warning, "it has 51 columns, the platform takes 50", "leave columns out").await;
    organisation.desk.simulator.remove_contact(&list, "L1");
    columns(&COLUMNS);
    organisation.only(Verdict::Warning, "it is empty", "import the leads").await;
    organisation.desk.simulator.put_contact(&list, "generated", [("leadId", "L9")]);
    organisation.desk.simulator.put_contact(&list, "L1", [("leadId", "L1")]);
    organisation
        .only(Verdict::Wrong, "1 of 2 contacts have an id that is not what stands in `leadId`", "inin-outbound-id")
        .await;
    organisation.desk.simulator.remove_contact(&list, "generated");
    organisation.desk.simulator.put_contact(&list, "L1", [("ml_score", "hot")]);
    organisation
        .only(Verdict::Warning, "1 of 1 contacts have something in `ml_score` that is no score", "somebody else")
        .await;
    organisation.desk.simulator.put_contact(&list, "L1", [("ml_score", "87.0")]);
    organisation.is_healthy().await;
    organisation.wanted.campaign = None;
    organisation.desk.simulator.remove_list(&list);
    let findings = organisation.findings().await;
    assert_eq!((findings[3].verdict, &*findings[3].says), (Verdict::Wrong, "the contact list is not there"));
    assert_eq!((findings[4].verdict, &*findings[4].about), (Verdict::Unknown, "campaigns"), "no campaign was named");
    organisation.desk.settings.outbound.contact_lists.clear();
    let says = &organisation.findings().await[3].says;
    assert!(says.contains("no contact list is named"), "{says}");
}

#[tokio::test]
async fn a_campaign_that_does_not_call_the_best_lead_first() {
    let organisation = organisation();
    let sort = |column: &str, direction: &str, numeric: bool| json!({ "fieldName": column, "direction": direction, "numeric": numeric });
    let newest = sort("ml_last_calculated_at", "DESC", false);
    let sorts = [
        (json!([]), Verdict::Wrong, "does not sort its contacts", "descending and numeric"),
        (json!([sort("ml_score", "DESC", false), newest]), Verdict::Wrong, "sorts `ml_score` as text", "`numeric`"),
        (
            json!([sort("ml_score", "ASC", true), newest]),
            Verdict::Wrong,
            "the worst lead is called first",
            "descending",
        ),
        (
            json!([newest, sort("ml_score", "DESC", true)]),
            Verdict::Wrong,
            "sorts by `ml_last_calculated_at` first",
            "come first",
        ),
        (
            json!([sort("ml_score", "DESC", true)]),
            Verdict::Warning,
            "leads of the same score have no order",
            "the newer one",
        ),
    ];
    for (sorts, verdict, says, fix) in sorts {
        organisation.campaign_is(json!({ "contactSorts": sorts }));
        organisation.only(verdict, says, fix).await;
    }
    let anew = "does not sort anew while it runs";
    for settings in [json!({ "sort": false }), json!({}), Value::Null] {
        organisation.campaign_is(json!({ "dynamicContactQueueingSettings": settings }));
        organisation.only(Verdict::Wrong, anew, "switched on when a campaign is made").await;
    }
    organisation.campaign_is(json!({ "campaignStatus": "off" }));
    organisation.only(Verdict::Warning, "its status is `off`, so nobody is called", "switch it on").await;
    organisation.campaign_is(json!({ "contactList": { "id": "another-list" } }));
    organisation.only(Verdict::Wrong, "it dials the list another-list, which is not in", "name that list there").await;
}

#[tokio::test]
async fn a_filter_that_empties_a_campaign() {
    let organisation = organisation();
    let skipping = CampaignPlan { skip_stale: true, ..plan() };
    let mut filter = skipping.contact_list_filter().expect("a filter");
    organisation.campaign_is(json!({ "contactListFilters": [{ "id": FILTER }] }));
    organisation.desk.simulator.set_contact_list_filter(FILTER, filter.clone());
    organisation.only(Verdict::Warning, "hardly anybody is called", "leave the filter out").await;
    filter["clauses"][0]["filterType"] = json!("AND");
    organisation.desk.simulator.set_contact_list_filter(FILTER, filter.clone());
    organisation.only(Verdict::Warning, "contacts never scored are never called", "let contacts without a time").await;
    filter["clauses"][0]["predicates"] = json!([{ "column": "Cell", "operator": "BEGINS_WITH", "value": "+1" }]);
    organisation.desk.simulator.set_contact_list_filter(FILTER, filter);
    organisation.is_healthy().await;
}

#[tokio::test]
async fn rules_that_do_not_find_the_right_people() {
    let organisation = organisation();
    organisation
        .rules_are(&json!(
            [rule("High", &[("GREATER_THAN_EQUALS", "80")]), rule("Senior", &[("GREATER_THAN", "70")]),]
        ));
    organisation
        .only(Verdict::Warning, "a score of 80 fits two rules, \"High\" and \"Senior\"", "exclude each other")
        .await;
    let mut text = rule("High", &[("GREATER_THAN_EQUALS", "80")]);
    text["conditions"][0]["valueType"] = json!("STRING");
    organisation.rules_are(&json!([text]));
    organisation.only(Verdict::Wrong, "compares the score as text", "NUMERIC").await;
    let mut late = rule("High", &[("GREATER_THAN_EQUALS", "80")]);
    late["category"] = json!("DIALER_WRAPUP");
    organisation.rules_are(&json!([late]));
    organisation.only(Verdict::Wrong, "is looked at after the call", "DIALER_PRECALL").await;
    let mut unread = rule("High", &[("GREATER_THAN_EQUALS", "80")]);
    unread["actions"][0]["properties"]["skills"] = json!(HIGH);
    organisation.rules_are(&json!([unread]));
    organisation.only(Verdict::Wrong, "names its skills in a form that is no list", "as a text").await;
    organisation.rules_are(&json!([]));
    organisation.only(Verdict::Warning, "no rule looks at `ml_score`", "add rules").await;
    organisation.rules_are(&plan().rule_set()["rules"]);
    organisation.desk.simulator.set_skill(HIGH, json!({ "id": HIGH, "state": "deleted" }));
    organisation
        .only(Verdict::Wrong, &format!("the skill {HIGH} of the rule \"High Value Sales\" is deleted"), "another")
        .await;
    let other = json!([HIGH.replace("52", "53")]).to_string();
    let mut missing = rule("High", &[("GREATER_THAN_EQUALS", "80")]);
    missing["actions"][0]["properties"]["skills"] = json!(other);
    organisation.rules_are(&json!([missing]));
    organisation.only(Verdict::Wrong, "of the rule \"High\" is not there", "check the id").await;
    organisation.campaign_is(json!({ "ruleSets": [{ "id": "gone" }] }));
    organisation.only(Verdict::Wrong, "a rule set is not there", "check the id").await;
}

#[tokio::test]
async fn each_right_that_lacks_is_named() {
    let mut organisation = organisation();
    let filter = CampaignPlan { skip_stale: true, ..plan() }.contact_list_filter().expect("a filter");
    organisation.desk.simulator.set_contact_list_filter(FILTER, filter);
    let lists = "/api/v2/outbound/contactlists/*";
    let reading = [
        ("GET", lists.to_owned(), "outbound:contactList:view"),
        ("POST", format!("{lists}/contacts/search"), "outbound:contact:view"),
        ("GET", "/api/v2/outbound/campaigns/*".to_owned(), "outbound:campaign:view"),
        ("GET", "/api/v2/outbound/rulesets/*".to_owned(), "outbound:ruleSet:view"),
        ("GET", "/api/v2/outbound/contactlistfilters/*".to_owned(), "outbound:contactListFilter:view"),
        ("GET", "/api/v2/routing/skills/*".to_owned(), "routing:skill:view"),
    ];
    let probing = [
        ("POST", format!("{lists}/contacts"), "outbound:contact:add"),
        ("GET", format!("{lists}/contacts/*"), "outbound:contact:view"),
        ("POST", format!("{lists}/contacts/bulk/update"), "outbound:contact:edit"),
        ("GET", format!("{lists}/contacts/bulk/jobs/*"), "outbound:contactList:view"),
    ];
    for (is_probe, (method, path, permission)) in
        reading.into_iter().map(|one| (false, one)).chain(probing.into_iter().map(|one| (true, one)))
    {
        organisation.wanted.probe = is_probe;
        let filters = if path.contains("filters") { json!([{ "id": FILTER }]) } else { json!([]) };
        organisation.campaign_is(json!({ "contactListFilters": filters }));
        organisation
            .faults(&format!("[[fault]]\npath = \"{path}\"\nmethod = \"{method}\"\nkind = \"status\"\nstatus = 403\n"));
        organisation.only(Verdict::Wrong, "the client may not", permission).await;
        assert_eq!(organisation.contacts(), ["L1"], "{path}");
    }
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why_and_nothing_else_is_asked() {
    let mut organisation = organisation();
    organisation.desk.settings.client_secret = "CANARY-SECRET".into();
    organisation.only(Verdict::Wrong, "the client is not let in", "the grant must be Client Credentials").await;
    organisation.desk.settings.client_secret = organisation.desk.simulator.settings().client_secret.as_str().into();
    organisation.faults("[[fault]]\npath = \"/oauth/token\"\nkind = \"status\"\nstatus = 403\n");
    organisation.only(Verdict::Wrong, "the client is not let in: `token`", "client_id").await;
    assert_eq!(organisation.findings().await.len(), 1);
    let limits = "/api/v2/organizations/limits/namespaces/*";
    organisation.faults(&format!("[[fault]]\npath = \"{limits}\"\nkind = \"status\"\nstatus = 403\n"));
    organisation.only(Verdict::Unknown, "limits may not be read", "").await;
}

#[tokio::test]
async fn a_rate_above_the_organisation_s() {
    let mut organisation = organisation();
    organisation.desk.settings.requests_per_minute = 301;
    let says = "the organisation allows 300 requests a minute, `genesys.requests_per_minute` is 301";
    organisation.only(Verdict::Wrong, says, "set `genesys.requests_per_minute = 300`").await;
    organisation.desk.settings.requests_per_minute = 300;
    organisation.is_healthy().await;
}

/// The platform's clock, and how far ours is ahead of it.
struct WrongClock(PlatformClock, i64);

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.now().as_second() + self.1).expect("in the calendar")
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

#[tokio::test]
async fn a_clock_that_is_off() {
    let organisation = organisation();
    let desk = &organisation.desk;
    for (ahead, says) in [
        (3600, "this machine's clock is 3600 s ahead of the platform's: scores seem fresher than they are"),
        (-120, "this machine's clock is 120 s behind the platform's: scores seem older than they are"),
        (-55, ""),
        (55, ""),
    ] {
        let clock = Arc::new(WrongClock(desk.simulator.clock(), ahead));
        let client = Genesys::new(desk.settings.clone(), desk.hasher(), desk.sealer(), clock).expect("a client");
        let findings = organisation.findings_of(client.doctor()).await;
        let odd: Vec<_> = findings.iter().filter(|finding| finding.verdict != Verdict::Fine).collect();
        if says.is_empty() {
            assert!(odd.is_empty(), "{odd:#?}");
        } else {
            let [finding] = &odd[..] else { panic!("{odd:#?}") };
            assert_eq!((finding.verdict, &*finding.says, &*finding.about), (Verdict::Wrong, says, "clock"));
            assert!(finding.fix.as_ref().is_some_and(|fix| fix.contains("NTP")));
        }
    }
}

#[tokio::test]
async fn a_pause_that_ends_at_a_date_is_one_of_the_platform_s_clock() {
    let organisation = organisation();
    let desk = &organisation.desk;
    for ahead in [3600, -3600] {
        let date = "retry_after = \"date\"\nretry_after_secs = 2";
        organisation
            .faults(&format!("[[fault]]\npath = \"/api/**\"\nkind = \"too_many_requests\"\n{date}\non = [1]\n"));
        let clock = Arc::new(WrongClock(desk.simulator.clock(), ahead));
        let client = Genesys::new(desk.settings.clone(), desk.hasher(), desk.sealer(), clock).expect("a client");
        let before = desk.simulator.log().len();
        let looked = tokio::time::timeout(Duration::from_secs(20), organisation.findings_of(client.doctor())).await;
        assert!(looked.is_ok(), "{ahead}: it waits for a date of another clock");
        let log = desk.simulator.log();
        let own: Vec<_> = log[before..].iter().filter(|logged| logged.template != "/oauth/token").collect();
        let waited = own[1].at.saturating_sub(own[0].at);
        assert_eq!(own[0].status, 429);
        assert!(waited >= Duration::from_secs(2) && waited < Duration::from_secs(4), "{ahead}: {waited:?}");
    }
}

fn probing(empties: bool, write: ContactWriteMode) -> Organisation {
    let mut organisation = organisation_with(SimulatorSettings { upsert_empties_unsent: empties, ..small() });
    organisation.desk.settings.outbound.write = write;
    organisation.wanted.probe = true;
    organisation
}

#[tokio::test]
async fn a_probe_makes_one_closed_contact_and_takes_it_out() {
    let organisation = probing(true, ContactWriteMode::Merge);
    let before = organisation.desk.simulator.contacts(&organisation.list);
    let findings = organisation.is_healthy().await;
    let says: Vec<_> = findings.iter().filter(|one| one.about.starts_with("probe")).map(|one| &*one.says).collect();
    assert_eq!(
        says,
        [
            "a score is read as it was written",
            "a time is read as it was written",
            "the platform empties columns that are not sent; `merge` sends them all",
            "a contact that is closed stays closed",
            "a job changes one column of a contact and keeps the rest",
            "\"older than a day\" finds a contact of two days ago",
            "the probe's contact is taken out again",
        ]
    );
    assert_eq!(organisation.desk.simulator.contacts(&organisation.list), before);
    let tally = ContactTally { created: 1, callable_sent: 1, cleared: 0, requeued: 0 };
    assert_eq!(organisation.desk.simulator.contact_tally(), tally, "one, closed to calls");

    let keeps = probing(false, ContactWriteMode::Merge);
    keeps.only(Verdict::Warning, "the platform keeps columns that are not sent", "write = \"partial\"").await;
    probing(false, ContactWriteMode::Partial).is_healthy().await;
    let destroys = probing(true, ContactWriteMode::Partial);
    destroys.only(Verdict::Wrong, "the platform empties columns that are not sent", "write = \"merge\"").await;
}

#[tokio::test]
async fn a_probe_that_fails_in_the_middle_leaves_nothing() {
    let contacts = "/api/v2/outbound/contactlists/*/contacts";
    for (path, fault) in [
        (contacts.to_owned(), "kind = \"status\"\nstatus = 503\napplied = true"),
        (contacts.to_owned(), "kind = \"cut\"\napplied = true\non = [2]"),
        (format!("{contacts}/*"), "method = \"GET\"\nkind = \"status\"\nstatus = 500"),
        (format!("{contacts}/bulk/update"), "kind = \"status\"\nstatus = 500"),
        (format!("{contacts}/bulk/jobs/*"), "kind = \"job_expired\""),
        (format!("{contacts}/search"), "kind = \"status\"\nstatus = 501\non = [3]"),
        // The answer is lost, so it is asked for again and is not there any more.
        (format!("{contacts}/*"), "method = \"DELETE\"\nkind = \"cut\"\napplied = true\non = [1]"),
    ] {
        let organisation = probing(true, ContactWriteMode::Merge);
        organisation.faults(&format!("[[fault]]\npath = \"{path}\"\n{fault}\n"));
        let findings = organisation.findings().await;
        assert_eq!(organisation.contacts(), ["L1"], "{path} {fault}: {findings:#?}");
        assert_eq!(organisation.desk.simulator.contact_tally().created, 1, "{path} {fault}");
        let taken = findings.iter().any(|one| one.says == "the probe's contact is taken out again");
        assert!(taken, "{path} {fault}: {findings:#?}");
    }
}

#[tokio::test]
async fn a_contact_that_stays_is_named_and_the_next_probe_takes_it_out() {
    let organisation = probing(true, ContactWriteMode::Merge);
    let path = "/api/v2/outbound/contactlists/*/contacts/*";
    organisation
        .faults(&format!("[[fault]]\npath = \"{path}\"\nmethod = \"DELETE\"\nkind = \"status\"\nstatus = 403\n"));
    organisation.only(Verdict::Wrong, "could not be taken out", "outbound:contact:delete").await;
    let left = organisation.contacts();
    assert!(left.len() == 2 && left[1].starts_with("scoreline-probe-"), "{left:?}");
    assert_eq!(organisation.desk.simulator.callable(&organisation.list, &left[1]), Some(false));
    organisation.faults("");
    organisation.only(Verdict::Warning, "1 contacts of earlier probes were still there", "").await;
    assert_eq!(organisation.contacts(), ["L1"]);
}

#[tokio::test]
async fn a_probe_that_is_interrupted_leaves_nothing() {
    let organisation = probing(true, ContactWriteMode::Merge);
    let path = "/api/v2/outbound/contactlists/*/contacts/*";
    organisation
        .faults(&format!("[[fault]]\npath = \"{path}\"\nmethod = \"GET\"\nkind = \"slow\"\ndelay_ms = 20000\n"));
    let mut doctor = organisation.desk.client().doctor();
    let stopped = tokio::time::timeout(Duration::from_secs(3), doctor.examine(&organisation.wanted)).await;
    assert!(stopped.is_err(), "in the middle");
    assert_eq!(organisation.contacts().len(), 2);
    doctor.leave().await;
    assert_eq!(organisation.contacts(), ["L1"]);
    doctor.leave().await;
}
