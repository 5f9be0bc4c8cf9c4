//! Data actions that ask for scores, as files to import and as Terraform; pure, nothing is sent.
//!
//! A published contract cannot be changed. So inputs are those of every model, all of them optional, and outputs everything
//! that is ever answered: another model needs no other contract. Nothing is rendered but what the platform made of the
//! inputs, `${input.rawRequest}`, so that nothing can be rendered wrongly.

use serde_json::{Map, Value, json};

use crate::terraform::{PROVIDER, arguments, expression, quoted};
use scoreline_domain::feature::CATALOGUE;
use scoreline_domain::template::input_name;

/// Seconds after which the platform gives up. Without it a stuck call holds one of the organisation's slots for a minute.
const TIMEOUT_SECONDS: u32 = 2;
/// Milliseconds after which the server answers from the best there is, so that its answer is there before the platform
/// gives up.
const DEADLINE_MS: &str = "1200";

/// How the platform says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerAuth {
    /// A token of `POST /oauth/token`, credential type "User Defined (OAuth)".
    OAuth,
    /// An API key, credential type "User Defined".
    Key,
    /// The platform's client certificate.
    Mtls,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct DataActionPlan {
    /// Where the server is reached, without a slash at its end.
    pub url: String,
    pub auth: CallerAuth,
    /// Whether each input is named in the template, instead of all as the platform passes them on.
    pub explicit: bool,
    /// What models of customers read beyond the catalogue, and what models of leads do.
    pub of_customers: Vec<ActionInput>,
    pub of_leads: Vec<ActionInput>,
}

/// One input of a data action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionInput {
    pub name: String,
    pub is_text: bool,
    pub about: String,
}

impl ActionInput {
    /// A feature under the name that data actions allow.
    pub fn feature(name: &str, is_text: bool, about: impl Into<String>) -> Self {
        Self { name: input_name(name), is_text, about: about.into() }
    }
}

/// One of the three actions.
struct Action {
    key: &'static str,
    name: &'static str,
    is_of_leads: bool,
}

const ACTIONS: [Action; 3] = [
    Action { key: "clv", name: "scoreline - value of a customer", is_of_leads: false },
    Action { key: "route", name: "scoreline - where a customer goes", is_of_leads: false },
    Action { key: "lead", name: "scoreline - priority of a lead", is_of_leads: true },
];

const OF_CUSTOMERS: [(&str, &str); 4] = [
    ("customer_id", "Call.ExternalContactId, or the id of your own system; never a phone number"),
    ("conversation_id", "Call.ConversationID"),
    ("acquisition_channel", "picks the baseline of a customer of whom nothing is known"),
    ("segment", "picks the baseline of a customer of whom nothing is known"),
];

const OF_LEADS: [(&str, &str); 3] = [
    ("lead_id", "the id under which the lead's score is asked for again"),
    ("conversation_id", "Call.ConversationID"),
    ("lead_source", "picks the conversion rate of a lead of whom nothing is known"),
];

/// Name, type and meaning of what is answered.
type Output = (&'static str, &'static str, &'static str);

const ANSWER: [Output; 16] = [
    ("status", "string", "success, fallback or error; all three carry values that a flow can use"),
    ("reason", "string", "ok, or why not"),
    ("message", "string", "what is wrong, with an error"),
    ("field", "string", "the input that is wrong, with an error"),
    ("source", "string", "model, cache, stale_cache, cold_start or fallback"),
    ("model", "string", "the model that answered"),
    ("model_version", "string", "its version"),
    ("inference_latency_ms", "number", "how long the answer took on the server"),
    ("scored_at", "string", "when the score was made"),
    ("age_seconds", "number", "how old the score is"),
    ("features_as_of", "string", "of when the stored features are"),
    ("features_age_seconds", "number", "how old the stored features are"),
    ("interval_level", "number", "how often the interval holds the value"),
    ("warnings", "string", "all warnings, separated by `; `"),
    ("widget_url", "string", "address of the agent's page of this conversation, where there is one"),
    ("request_id", "string", "to be told when something is wrong"),
];

const CUSTOMER: [Output; 13] = [
    ("clv_value_usd", "number", "the expected value"),
    ("confidence_interval_low", "number", "where its interval begins"),
    ("confidence_interval_high", "number", "where its interval ends"),
    ("risk_score", "number", "probability that the customer buys nothing"),
    ("confidence_score", "number", "probability that the order by tiers is right for this customer"),
    ("tier_probability", "number", "probability that the customer's spend will be in the tier"),
    ("clv_tier", "string", "High_Value, Medium_Value or Low_Value"),
    ("skill_id", "string", "the skill of the tier"),
    ("priority", "number", "the priority of the tier: one point is one minute of waiting"),
    ("queue", "string", "the queue of the tier, when it has one"),
    ("low_confidence", "boolean", "whether the tier is more a guess than a statement"),
    ("badge", "string", "indicative, when the confidence is low"),
    ("control", "boolean", "true for customers who are routed as if there were no score, to learn what scores earn"),
];

const DEFAULT_ROUTING: Output =
    ("use_default_routing", "boolean", "branch on it first: when true, do what the flow would do without a score");

const LEAD: [Output; 2] = [
    ("priority_score", "number", "1 to 100, the highest is called first"),
    ("conversion_probability", "number", "probability that the lead converts"),
];

impl DataActionPlan {
    /// The files by name: the actions, which are imported, and the configuration of the credentials, where there is one.
    pub fn files(&self) -> Vec<(String, Value)> {
        let action = |action: &Action| (format!("scoreline-{}.custom.json", action.key), self.action(action));
        let token = self.token().map(|config| (AUTH_FILE.to_owned(), json!({ "name": TOKEN_NAME, "config": config })));
        ACTIONS.iter().map(action).chain(token).collect()
    }

    fn action(&self, action: &Action) -> Value {
        json!({
            "name": action.name,
            "integrationType": "custom-rest-actions",
            "actionType": "custom",
            "secure": false,
            "config": {
                "timeoutSeconds": TIMEOUT_SECONDS,
                "request": {
                    "requestUrlTemplate": self.url_of(action),
                    "requestType": "POST",
                    "headers": self.headers(),
                    "requestTemplate": self.template(action),
                },
                "response": { "translationMap": {}, "translationMapDefaults": {}, "successTemplate": "${rawResult}" },
            },
            "contract": {
                "input": { "inputSchema": self.input_schema(action) },
                "output": { "successSchema": output_schema(action) },
            },
        })
    }

    fn url_of(&self, action: &Action) -> String {
        format!("{}/v1/genesys/{}", self.url, action.key)
    }

    fn headers(&self) -> Value {
        let mut headers = json!({ "Content-Type": "application/json", "x-deadline-ms": DEADLINE_MS });
        let authorization = match self.auth {
            CallerAuth::OAuth => "Bearer ${authResponse.access_token}",
            CallerAuth::Key => "Bearer ${credentials.apiKey}",
            CallerAuth::Mtls => return headers,
        };
        headers["Authorization"] = authorization.into();
        headers
    }

    /// The identifiers, the catalogue, and what models read beyond it; each once.
    fn inputs(&self, action: &Action) -> Vec<ActionInput> {
        let (ids, of_models): (&[(&str, &str)], _) =
            if action.is_of_leads { (&OF_LEADS, &self.of_leads) } else { (&OF_CUSTOMERS, &self.of_customers) };
        let ids = ids.iter().map(|(name, about)| ActionInput::feature(name, true, *about));
        let catalogue = CATALOGUE.iter().map(|feature| ActionInput::feature(feature.name, false, feature.meaning));
        let mut inputs: Vec<ActionInput> = Vec::new();
        for input in ids.chain(catalogue).chain(of_models.iter().cloned()) {
            if inputs.iter().all(|known| known.name != input.name) {
                inputs.push(input);
            }
        }
        inputs
    }

    fn input_schema(&self, action: &Action) -> Value {
        let property = |input: ActionInput| {
            let kind = if input.is_text { "string" } else { "number" };
            (input.name, json!({ "type": kind, "description": input.about }))
        };
        schema("ScorelineQuestion", &self.inputs(action).into_iter().map(property).collect())
    }

    /// Every value stands in quotes, numbers too, and an absent one is an empty text: so no comma depends on an input.
    fn template(&self, action: &Action) -> String {
        if !self.explicit {
            return "${input.rawRequest}".to_owned();
        }
        let part = |ActionInput { name, is_text, .. }: ActionInput| {
            if is_text {
                format!(r##""{name}":"#if("$!{{input.{name}}}" != "")$esc.jsonEncode(${{input.{name}}})#end""##)
            } else {
                format!(r#""{name}":"$!{{input.{name}}}""#)
            }
        };
        format!("{{{}}}", self.inputs(action).into_iter().map(part).collect::<Vec<_>>().join(","))
    }

    /// How the platform gets a token; `None` when it needs none.
    fn token(&self) -> Option<Value> {
        (self.auth == CallerAuth::OAuth).then(|| {
            json!({
                "request": {
                    "requestUrlTemplate": "${credentials.loginUrl}",
                    "requestType": "POST",
                    "headers": {
                        "Authorization": "Basic $encoding.base64(\"${credentials.clientId}:${credentials.clientSecret}\")",
                        "Content-Type": "application/x-www-form-urlencoded",
                    },
                    "requestTemplate": "grant_type=client_credentials",
                },
                "response": { "translationMap": {}, "translationMapDefaults": {}, "successTemplate": "${rawResult}" },
            })
        })
    }

    /// The same for the platform's Terraform provider.
    pub fn terraform(&self) -> String {
        let credentials = match self.auth {
            CallerAuth::OAuth => {
                format!("User Defined (OAuth)\n# with loginUrl {}/oauth/token, clientId and clientSecret", self.url)
            }
            CallerAuth::Key => "User Defined with apiKey".to_owned(),
            CallerAuth::Mtls => "none,\n# because the platform shows its certificate".to_owned(),
        };
        let contracts: Vec<_> = [("customer", &ACTIONS[0]), ("lead", &ACTIONS[2])]
            .into_iter()
            .flat_map(|(whose, action)| {
                let (question, answer) = (self.input_schema(action), output_schema(action));
                [(format!("{whose}_question"), question), (format!("{whose}_answer"), answer)]
            })
            .map(|(name, schema)| (name, expression(&schema, 2)))
            .collect();
        let mut text = format!(
            "# Data actions that ask for scores.\n\n{PROVIDER}\
             # An integration \"Web Services Data Actions\". Its credentials: {credentials}.\n\
             variable \"integration_id\" {{\n  type = string\n}}\n\n\
             # Contracts are given once: a change makes other actions, with other ids.\nlocals {{\n{}}}\n",
            arguments(&contracts, 2)
        );
        for action in &ACTIONS {
            let whose = if action.is_of_leads { "lead" } else { "customer" };
            let what = [
                ("name", quoted(action.name)),
                ("category", quoted("scoreline")),
                ("integration_id", INTEGRATION.to_owned()),
                ("secure", "false".to_owned()),
                ("config_timeout_seconds", TIMEOUT_SECONDS.to_string()),
                ("contract_input", format!("jsonencode(local.{whose}_question)")),
                ("contract_output", format!("jsonencode(local.{whose}_answer)")),
            ];
            let config = &self.action(action)["config"];
            text.push_str(&resource("genesyscloud_integration_action", action.key, &what, config));
        }
        if let Some(config) = self.token() {
            let what = [("name", quoted(TOKEN_NAME)), ("integration_id", INTEGRATION.to_owned())];
            text.push_str(&resource("genesyscloud_integration_custom_auth_action", "token", &what, &config));
        }
        text
    }
}

const INTEGRATION: &str = "var.integration_id";

/// A resource with the blocks of its configuration: what is sent, and what is made of the answer.
fn resource(kind: &str, key: &str, what: &[(&str, String)], config: &Value) -> String {
    let block = |part: &str, names: &[(&'static str, &str)]| {
        let lines: Vec<_> = names.iter().map(|(name, field)| (*name, expression(&config[part][*field], 4))).collect();
        arguments(&lines, 4)
    };
    let request = [
        ("request_url_template", "requestUrlTemplate"),
        ("request_type", "requestType"),
        ("request_template", "requestTemplate"),
        ("headers", "headers"),
    ];
    let response = [
        ("translation_map", "translationMap"),
        ("translation_map_defaults", "translationMapDefaults"),
        ("success_template", "successTemplate"),
    ];
    format!(
        "\nresource \"{kind}\" \"{key}\" {{\n{}  config_request {{\n{}  }}\n  config_response {{\n{}  }}\n}}\n",
        arguments(what, 2),
        block("request", &request),
        block("response", &response)
    )
}

fn output_schema(action: &Action) -> Value {
    let property = |(name, kind, about): &Output| ((*name).to_owned(), json!({ "type": kind, "description": about }));
    let own: Vec<Output> =
        if action.is_of_leads { LEAD.to_vec() } else { CUSTOMER.into_iter().chain([DEFAULT_ROUTING]).collect() };
    schema("ScorelineAnswer", &ANSWER.iter().chain(&own).map(property).collect())
}

fn schema(title: &str, properties: &Map<String, Value>) -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "title": title,
        "type": "object",
        "properties": properties,
        "additionalProperties": true,
    })
}

const TOKEN_NAME: &str = "scoreline - token";
/// The configuration of the credentials' own action, which is there already and cannot be imported.
pub const AUTH_FILE: &str = "scoreline-auth.json";

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(explicit: bool) -> DataActionPlan {
        let known =
            [ActionInput::feature("segment", true, "again"), ActionInput::feature("loyalty.level", true, "more")];
        DataActionPlan {
            url: "https://score.example.com".to_owned(),
            auth: CallerAuth::Key,
            explicit,
            of_customers: known.to_vec(),
            of_leads: Vec::new(),
        }
    }

    #[test]
    fn every_feature_of_the_catalogue_is_an_input_of_every_action_and_none_is_required() {
        for (name, file) in plan(false).files() {
            let schema = &file["contract"]["input"]["inputSchema"];
            for feature in CATALOGUE {
                assert_eq!(schema["properties"][feature.name]["type"], "number", "{name}: {}", feature.name);
            }
            assert!(schema.get("required").is_none(), "{name}");
            assert_eq!(file["config"]["timeoutSeconds"], 2, "{name}");
            assert_eq!(file["config"]["request"]["headers"]["x-deadline-ms"], "1200", "{name}");
            let has_more = schema["properties"].get("loyalty_level").is_some();
            assert_eq!(has_more, name != "scoreline-lead.custom.json", "{name}");
        }
    }

    #[test]
    fn an_input_that_has_a_name_already_does_not_come_twice() {
        let template = plan(true).template(&ACTIONS[0]);
        assert_eq!(template.matches(r#""segment":"#).count(), 1, "{template}");
        assert!(template.ends_with(r##","loyalty_level":"#if("$!{input.loyalty_level}" != "")$esc.jsonEncode(${input.loyalty_level})#end"}"##), "{template}");
    }
}
