use serde_json::json;

use super::*;
use crate::source::manifest;

fn rules(text: &str) -> Result<(Rules, Templates)> {
    let manifest = manifest::load(&format!(
        "spec: {{type: Spec, config_normalization_rules: {{type: ConfigNormalizationRules, {text}}}}}"
    ))?;
    let root = Component::new(&manifest, "manifest")?;
    let mut templates = Templates::new();
    let rules = Rules::build(root.child("spec")?.as_ref(), &mut templates)?;
    Ok((rules, templates))
}

#[test]
fn migrations_are_kept_and_transformations_are_not() {
    let (rules, templates) = rules(
        "config_migrations: [{type: ConfigMigration, transformations: [
           {type: ConfigAddFields, fields: [{path: [login, name], value: \"{{ config['user'] }}\"}]},
           {type: ConfigRemoveFields, field_pointers: [[user], [missing, x]]}]}],
         transformations: [
           {type: ConfigRemapField, field_path: [region], map: {eu: 'https://eu.test', us: 1}},
           {type: ConfigAddFields, condition: \"{{ value == 7 }}\", fields: [{path: [seven], value: '7'}, {path: [eight], value: '8'}]}]",
    )
    .unwrap();
    let done = rules
        .normalize(&json!({"user": "u", "region": "eu"}), &templates)
        .unwrap();
    let migrated = json!({"region": "eu", "login": {"name": "u"}});
    assert_eq!(done.migrated, Some(migrated.clone()));
    assert_eq!(
        done.settings,
        json!({"region": "https://eu.test", "login": {"name": "u"}, "seven": 7})
    );
    let without = rules.normalize(&json!({"region": 5}), &templates);
    // The setting to be moved is not there.
    assert_eq!(
        without.unwrap().settings,
        json!({"region": 5, "login": {"name": ""}, "seven": 7})
    );
}

#[test]
fn refused_settings_are_named_and_not_shown() {
    let (rules, templates) = rules(
        "validations: [{type: DpathValidator, field_path: [accounts, '*'], validation_strategy: {type: ValidateAdheresToSchema, base_schema: {type: object, required: [id]}}}]",
    )
    .unwrap();
    let check = |settings: Value| rules.validate(&settings, &templates);
    check(json!({})).unwrap();
    check(json!({"accounts": [{"id": 1}, "{\"id\": 2}"]})).unwrap();
    for wrong in [
        json!([{"secret": 5}]),
        json!(["planted-secret"]),
        json!([[77]]),
    ] {
        let error = check(json!({ "accounts": wrong })).unwrap_err();
        assert_eq!(error.code(), "setting_invalid");
        assert!(error.message().contains("`accounts.*`"), "{error}");
        assert!(!error.chain().contains("secret\""), "{error}");
        assert!(!error.chain().contains("planted"), "{error}");
    }
}

#[test]
fn unknown_rules_are_refused_with_their_place() {
    for (text, place) in [
        (
            "transformations: [{type: ConfigDance}]",
            "manifest.spec.config_normalization_rules.transformations[0]",
        ),
        (
            "transformations: [{type: ConfigRemapField, map: {a: b}}]",
            "transformations[0].field_path",
        ),
        (
            "config_migrations: [{type: ConfigMigration, transformations: [{type: ConfigAddFields, fields: [{value: x}]}]}]",
            "config_migrations[0].transformations[0].fields[0].path",
        ),
        (
            "validations: [{type: DpathValidator, field_path: [a], validation_strategy: {type: ValidateAdheresToSchema, base_schema: {type: 5}}}]",
            "validations[0].validation_strategy.base_schema",
        ),
    ] {
        let error = rules(text).err().expect("it is refused");
        assert!(error.message().contains(place), "{error}");
    }
    // Code of the connector's own changes nothing.
    for passed_over in [
        "transformations: [{type: CustomConfigTransformation, class_name: x.Y}]",
        "validations: [{type: CustomValidator, class_name: x.Y}]",
        "validations: [{type: DpathValidator, field_path: [a], validation_strategy: {type: CustomValidationStrategy, class_name: x.Y}}]",
    ] {
        let (rules, templates) = rules(passed_over).unwrap();
        assert!(rules.validate(&json!({"a": 1}), &templates).is_ok());
    }
}
