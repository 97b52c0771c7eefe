//! `baton config schema`: the table of keys as a JSON Schema, for editors and for other programs.
//!
//! A schema knows types, names, choices and conditions. That a duration is within its bounds, and what only
//! several tables together show, only `baton config check` knows.

use serde_json::{Map, Value, json};

use super::keys::{Absence, Key, Kind, ROOT, Section};
use super::units;

/// The schema, of draft 2020-12.
pub fn schema() -> Value {
    let mut schema = table(&ROOT);
    schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".into(), json!("baton.toml"));
    Value::Object(schema)
}

fn table(section: &Section) -> Map<String, Value> {
    let keys = section.keys.iter().map(|key| (key.name.to_owned(), property(key)));
    let tables = section.sections.iter().map(|below| {
        let mut inner = table(below);
        let value = if below.repeated {
            json!({ "type": "array", "minItems": u8::from(below.is_needed()), "items": inner })
        } else {
            inner.insert("description".into(), json!(below.doc));
            Value::Object(inner)
        };
        (below.name.to_owned(), value)
    });
    let properties: Map<_, _> = keys.chain(tables).collect();
    let always = |key: &&Key| key.absence == Absence::Refused && key.only.is_none();
    let mut required: Vec<_> = section.keys.iter().filter(always).map(|key| key.name).collect();
    required.extend(section.sections.iter().filter(|below| below.is_needed()).map(|below| below.name));
    let mut schema = Map::from_iter([
        ("description".to_owned(), json!(section.doc)),
        ("type".to_owned(), json!("object")),
        ("properties".to_owned(), Value::Object(properties)),
        ("additionalProperties".to_owned(), json!(false)),
    ]);
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    let conditions: Vec<_> = section.keys.iter().filter_map(|key| condition(section, key)).collect();
    if !conditions.is_empty() {
        schema.insert("allOf".to_owned(), json!(conditions));
    }
    schema
}

/// Where a key may be, and has to be.
fn condition(section: &Section, key: &Key) -> Option<Value> {
    let only = key.only?;
    let chosen = json!({ "properties": { only.key: { "enum": only.values } }, "required": [only.key] });
    // A choice that is left out is its default, which may be one of the values.
    let default = section.keys.iter().find(|other| other.name == only.key)?.absence;
    let by_default = |value: &&str| match default {
        Absence::Default(default) => default.trim_matches('"') == *value,
        // Nobody can tell here; reading the file does.
        Absence::OfParent(_) => true,
        Absence::Fine | Absence::Refused => false,
    };
    let holds = if only.values.iter().any(by_default) {
        json!({ "properties": { only.key: { "enum": only.values } } })
    } else {
        chosen
    };
    let mut condition = Map::from_iter([
        ("if".to_owned(), holds),
        ("else".to_owned(), json!({ "properties": { key.name: false } })),
    ]);
    if key.absence == Absence::Refused {
        condition.insert("then".to_owned(), json!({ "required": [key.name] }));
    }
    Some(Value::Object(condition))
}

fn property(key: &Key) -> Value {
    let Value::Object(mut schema) = kind(&key.kind) else { return Value::Bool(true) };
    schema.insert("description".to_owned(), json!(format!("{} Takes {}.", key.doc, key.kind.describe())));
    if let Absence::Default(default) = key.absence
        && let Some(default) = json_of(default)
    {
        schema.insert("default".to_owned(), default);
    }
    if let Some(example) = json_of(key.example) {
        schema.insert("examples".to_owned(), json!([example]));
    }
    Value::Object(schema)
}

/// A value of TOML as one of JSON.
fn json_of(toml: &str) -> Option<Value> {
    let table: toml::Table = toml::from_str(&format!("value = {toml}")).ok()?;
    serde_json::to_value(table.get("value")?).ok()
}

fn kind(kind: &Kind) -> Value {
    let pattern = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    match kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Name => pattern("^[a-z][a-z0-9-]{0,31}$"),
        Kind::Choice(choices) => {
            let values: Vec<_> = choices.iter().map(|(value, _)| *value).collect();
            json!({ "type": "string", "enum": values })
        }
        Kind::Count { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Prefix { most } => json!({ "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": most },
            { "type": "string", "pattern": "^/?[0-9]{1,3}$" },
        ] }),
        Kind::Duration { .. } => pattern("^([0-9]+ *[a-zA-Z]+ *)+$"),
        Kind::Size => pattern("^[0-9][0-9._ ]*[KMGTPEkmgtpe]i?[Bb]?$"),
        Kind::Ceiling => pattern("^([0-9]{1,3} *%|[0-9][0-9._ ]*[KMGTPEkmgtpe]i?[Bb]?)$"),
        Kind::Endpoint => pattern("^([0-9.]+|\\[[0-9a-fA-F:.]+\\]):[0-9]{1,5}$"),
        Kind::Ports => pattern("^[0-9]{1,5} *- *[0-9]{1,5}$"),
        Kind::Path | Kind::UrlPath => pattern("^/"),
        Kind::UrlPaths => json!({ "anyOf": [
            { "type": "string", "pattern": "^/" },
            {
                "type": "array", "minItems": 1, "uniqueItems": true,
                "items": { "type": "string", "pattern": "^/" },
            },
        ] }),
        Kind::Method => pattern("^[!-`{-~]+$"),
        Kind::Host => pattern("^[^ /@]+$"),
        Kind::Pattern | Kind::Payload => json!({ "type": "string" }),
        Kind::Unit => pattern("^[A-Za-z0-9:_.@\\\\-]+\\.[A-Za-z]+$"),
        Kind::Interfaces => {
            json!({ "type": "array", "items": { "type": "string", "minLength": 1, "maxLength": 15 } })
        }
        Kind::Arguments => json!({
            "type": "array", "minItems": 1,
            "prefixItems": [{ "type": "string", "pattern": "^/" }], "items": { "type": "string" },
        }),
        Kind::Statuses => json!({ "type": "array", "minItems": 1, "items": { "anyOf": [
            { "type": "integer", "minimum": 100, "maximum": 999 },
            { "type": "string", "pattern": "^([0-9]{3}( *- *[0-9]{3})?|[1-5]xx)$" },
        ] } }),
        Kind::Url => pattern("^https?://[^/ @]+(/[^ #]*)?$"),
        Kind::Headers | Kind::Variables => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        Kind::ServerUrl => pattern("^https?://[^ ?#]+$"),
        Kind::Group => pattern("^[a-zA-Z0-9.-]+$"),
        Kind::Label => pattern("^[!-~]{1,253}$"),
        Kind::Days => {
            let days = json!({ "type": "string", "enum": units::DAYS });
            json!({ "anyOf": [{ "const": "daily" }, { "type": "array", "minItems": 1, "items": days }] })
        }
        Kind::TimeOfDay => pattern("^([01][0-9]|2[0-3]):[0-5][0-9]$"),
        Kind::TimeZone => pattern("^[A-Za-z0-9_+/-]+$"),
        Kind::Share => json!({ "anyOf": [
            { "type": "integer", "minimum": 1 },
            { "type": "string", "pattern": "^[0-9]{1,3} *%$" },
        ] }),
        Kind::Jitter { .. } => pattern("^([0-9]{1,3} *%|([0-9]+ *[a-zA-Z]+ *)+)$"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use boon::{Compiler, SchemaIndex, Schemas};

    use super::super::example;
    use super::*;

    struct Validator(Schemas, SchemaIndex);

    impl Validator {
        fn new() -> Self {
            let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
            compiler.add_resource("baton.json", schema()).unwrap();
            let index = compiler.compile("baton.json", &mut schemas).unwrap();
            Self(schemas, index)
        }

        fn accepts(&self, text: &str) -> bool {
            let file: toml::Table = toml::from_str(text).unwrap();
            self.0.validate(&serde_json::to_value(file).unwrap(), self.1).is_ok()
        }
    }

    #[test]
    fn the_example_fits_the_schema_and_every_example_of_a_key_does() {
        let validator = Validator::new();
        assert!(validator.accepts(&example()));
        for section in ROOT.all() {
            for key in section.keys {
                let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
                compiler.add_resource("key.json", property(key)).unwrap();
                let index = compiler.compile("key.json", &mut schemas).unwrap();
                let value = json_of(key.example).unwrap();
                assert!(schemas.validate(&value, index).is_ok(), "{}.{}", section.path, key.name);
            }
        }
    }

    #[test]
    fn what_a_schema_can_know_it_refuses() {
        let validator = Validator::new();
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/invalid_configs");
        for name in [
            "backend_is_a_table",
            "ceiling_without_unit",
            "check_counts",
            "check_keys_of_others",
            "check_script",
            "check_status",
            "check_type",
            "data_plane",
            "driver_keys_of_others",
            "driver_unit",
            "name_is_no_name",
            "no_backend",
            "snat_with_dsr",
            "unknown_keys",
            "unknown_section",
            "vip_without_port",
            "warm_up_paths",
        ] {
            let text = fs::read_to_string(files.join(name).with_extension("toml")).unwrap();
            assert!(!validator.accepts(&text), "{name}");
        }
    }
}
