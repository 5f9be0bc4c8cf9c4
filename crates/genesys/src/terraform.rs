//! Texts and values as Terraform's language writes them, in the layout of `terraform fmt`.

use std::fmt::Write as _;

use serde_json::Value;

/// What every file for the platform begins with.
pub(crate) const PROVIDER: &str = "\
terraform {
  required_providers {
    genesyscloud = {
      source = \"mypurecloud/genesyscloud\"
    }
  }
}

";

/// A text as HCL writes it: as JSON, with the signs of a template made harmless.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace("${", "$${").replace("%{", "%%{")
}

/// A value as an expression; its lines after the first begin behind `indent` blanks.
pub(crate) fn expression(value: &Value, indent: usize) -> String {
    let Some(fields) = value.as_object() else {
        return value.as_str().map_or_else(|| value.to_string(), quoted);
    };
    let is_short = fields.len() <= 2 && fields.values().all(|value| !value.is_object());
    if is_short {
        let parts: Vec<_> =
            fields.iter().map(|(name, value)| format!("{} = {}", key(name), expression(value, 0))).collect();
        return if parts.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", parts.join(", ")) };
    }
    let lines: Vec<_> = fields.iter().map(|(name, value)| (key(name), expression(value, indent + 2))).collect();
    format!("{{\n{}{}}}", arguments(&lines, indent + 2), " ".repeat(indent))
}

/// Names with their expressions, a line each behind `indent` blanks.
pub(crate) fn arguments(lines: &[(impl AsRef<str>, String)], indent: usize) -> String {
    let before = " ".repeat(indent);
    // Lines that follow each other have their signs in one column; what takes more lines ends such a run.
    let runs = lines.chunk_by(|(_, one), (_, other)| !one.contains('\n') && !other.contains('\n'));
    let mut text = String::new();
    for run in runs {
        let width = run.iter().map(|(name, _)| name.as_ref().chars().count()).max().unwrap_or(0);
        for (name, value) in run {
            let _ = writeln!(text, "{before}{:width$} = {value}", name.as_ref());
        }
    }
    text
}

fn key(name: &str) -> String {
    let is_plain = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if is_plain { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_stand_as_terraform_lays_them_out() {
        let value = json!({
            "$schema": "x", "a": {"type": "number"}, "bcd": 2, "many": {"one": {}, "other": {"of": {"x": true}}}, "z": "${y}",
        });
        let text = "{\n  \"$schema\" = \"x\"\n  a         = { type = \"number\" }\n  bcd       = 2\n  many = {\n    \
                    one = {}\n    other = {\n      of = { x = true }\n    }\n  }\n  z = \"$${y}\"\n}";
        assert_eq!(expression(&value, 0), text);
        assert_eq!(expression(&json!("a\"%{b}"), 4), r#""a\"%%{b}""#);
    }
}
