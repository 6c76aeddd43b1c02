//! From a GraphQL request to an answer.

use serde_json::{Map, Value, json};

use super::OneState;
use super::lookup;
use super::mutate::{self, Spoil};
use super::query::{self, Operation, Selected};
use super::schema::{Change, Entity, MUTATIONS};
use crate::fault::FaultKind;
use crate::ledger::{Effect, content, lock};

/// A request understood as far as its root field.
#[derive(Debug)]
pub(crate) struct Request {
    operation: Operation,
    variables: Map<String, Value>,
}

/// An error of a whole call.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub code: &'static str,
    pub message: String,
    pub path: Option<String>,
}

impl Refusal {
    fn validation(message: impl Into<String>) -> Self {
        Self {
            code: "GRAPHQL_VALIDATION_FAILED",
            message: message.into(),
            path: None,
        }
    }

    fn input(message: impl Into<String>, path: &str) -> Self {
        Self {
            code: "BAD_USER_INPUT",
            message: message.into(),
            path: Some(path.to_owned()),
        }
    }

    /// The body of the answer.
    pub(crate) fn body(&self) -> Value {
        let path: Vec<&str> = self.path.as_deref().into_iter().collect();
        json!({
            "data": null,
            "errors": [{ "message": self.message, "path": path, "extensions": { "code": self.code } }],
        })
    }
}

impl Request {
    /// Reads a request body.
    ///
    /// # Errors
    /// A refusal of the whole call.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let body: Value = serde_json::from_slice(body)
            .map_err(|_| Refusal::validation("the request body is not JSON"))?;
        let text = body.get("query").and_then(Value::as_str).unwrap_or("");
        let operation = query::parse(text).map_err(Refusal::validation)?;
        let variables = match body.get("variables") {
            Some(Value::Object(variables)) => variables.clone(),
            None | Some(Value::Null) => Map::new(),
            Some(_) => return Err(Refusal::validation("variables must be an object")),
        };
        Ok(Self {
            operation,
            variables,
        })
    }

    /// The root field.
    pub(crate) fn name(&self) -> &str {
        &self.operation.field.name
    }

    /// Whether it writes.
    pub(crate) fn writes(&self) -> bool {
        self.operation.mutation
    }

    /// Business keys of the items, and short hashes of the items.
    pub(crate) fn keys(&self) -> (Vec<String>, Vec<String>) {
        let Some((_, entity, _, _)) = MUTATIONS.iter().find(|(name, ..)| *name == self.name())
        else {
            return Default::default();
        };
        let items = self.argument("input").and_then(Value::as_array);
        items
            .into_iter()
            .flatten()
            .filter_map(|item| Some((item.get(entity.key())?.as_str()?, content(item))))
            .map(|(key, content)| (format!("{}:{key}", entity.kind()), content))
            .unzip()
    }

    fn argument(&self, name: &str) -> Option<&Value> {
        let given = self.operation.field.arguments.get(name)?;
        self.variables.get(given.strip_prefix('$')?)
    }

    /// A number given as a variable or in the text.
    fn number(&self, name: &str) -> Option<u64> {
        let given = self.operation.field.arguments.get(name)?;
        match given.strip_prefix('$') {
            Some(variable) => self.variables.get(variable)?.as_u64(),
            None => given.parse().ok(),
        }
    }

    /// Checks the arguments, the variables used and their declared types.
    fn check_arguments(&self, allowed: &[(&str, &str)]) -> Result<(), Refusal> {
        let field = &self.operation.field;
        for (name, value) in &field.arguments {
            let Some((_, kind)) = allowed.iter().find(|(known, _)| known == name) else {
                return Err(Refusal::validation(format!(
                    "Unknown argument \"{name}\" on field \"{}\".",
                    field.name
                )));
            };
            if let Some(variable) = value.strip_prefix('$') {
                let declared = self.operation.variables.get(variable).ok_or_else(|| {
                    Refusal::validation(format!("Variable \"${variable}\" is not defined."))
                })?;
                if declared.trim_end_matches('!') != kind.trim_end_matches('!')
                    && declared.replace('!', "") != kind.replace('!', "")
                {
                    return Err(Refusal::validation(format!(
                        "Variable \"${variable}\" of type \"{declared}\" used in position expecting type \"{kind}\"."
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Refuses selected fields the type does not have, and cuts the value down to the selection.
fn project(value: &Value, selected: &[Selected]) -> Value {
    match value {
        Value::Array(list) => list.iter().map(|one| project(one, selected)).collect(),
        Value::Object(object) if !selected.is_empty() => selected
            .iter()
            .map(|field| {
                let inner = object.get(&field.name).unwrap_or(&Value::Null);
                (field.name.clone(), project(inner, &field.fields))
            })
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

fn check_selection(selected: &[Selected], allowed: &[&str], of: &str) -> Result<(), Refusal> {
    if selected.is_empty() {
        return Err(Refusal::validation(format!(
            "Field \"{of}\" must have a selection of subfields."
        )));
    }
    match selected
        .iter()
        .find(|field| !allowed.contains(&field.name.as_str()))
    {
        Some(field) => Err(Refusal::validation(format!(
            "Cannot query field \"{}\" on type \"{of}\".",
            field.name
        ))),
        None => Ok(()),
    }
}

/// Answers an authenticated request.
///
/// # Errors
/// A refusal of the whole call.
pub(crate) fn answer(
    state: &OneState,
    request: Request,
    fault: Option<FaultKind>,
) -> Result<(Value, Effect), Refusal> {
    let name = request.name().to_owned();
    if request.operation.mutation {
        let found = MUTATIONS.iter().find(|(known, ..)| *known == name);
        let Some((_, entity, change, kind)) = found else {
            return Err(unknown_root(&name, "Mutation"));
        };
        return mutation(state, &request, *entity, *change, kind, fault);
    }
    let found = Entity::ALL
        .into_iter()
        .find(|entity| entity.list().0 == name);
    let Some(entity) = found else {
        return Err(unknown_root(&name, "Query"));
    };
    let value = list(state, &request, entity)?;
    Ok((value, Effect::default()))
}

fn unknown_root(name: &str, on: &str) -> Refusal {
    Refusal::validation(format!("Cannot query field \"{name}\" on type \"{on}\"."))
}

fn mutation(
    state: &OneState,
    request: &Request,
    entity: Entity,
    change: Change,
    kind: &str,
    fault: Option<FaultKind>,
) -> Result<(Value, Effect), Refusal> {
    let field = &request.operation.field;
    request.check_arguments(&[("input", kind)])?;
    check_selection(&field.fields, &["results"], &field.name)?;
    let results = field
        .field("results")
        .map_or(&[][..], |results| &results.fields);
    check_selection(results, &entity.result_fields(), "Result")?;
    if let Some(messages) = results.iter().find(|one| one.name == "validationMessages") {
        check_selection(
            &messages.fields,
            &["code", "field", "message"],
            "ValidationMessage",
        )?;
    }
    let items: Vec<Map<String, Value>> = request
        .argument("input")
        .and_then(Value::as_array)
        .map(|list| list.iter().map(|item| item.as_object().cloned()).collect())
        .and_then(|items: Option<Vec<_>>| items)
        .ok_or_else(|| Refusal::validation("the input must be a list of objects"))?;
    if let Some(unknown) = mutate::unknown_fields(entity, &items).first() {
        let kind = kind.trim_matches(['[', ']', '!']);
        return Err(Refusal::validation(format!(
            "Field \"{unknown}\" is not defined by type \"{kind}\"."
        )));
    }
    let most = mutate::most_items(entity);
    if items.len() > most {
        return Err(Refusal::input(format!("at most {most} items"), &field.name));
    }
    let spoil = match fault {
        Some(FaultKind::LyingSuccess) => Spoil::Lie,
        Some(FaultKind::PartialErrors) => Spoil::NullAt(items.len() / 2),
        _ => Spoil::Nothing,
    };
    let now = super::now();
    let (results_in_order, effect, turn) = {
        let mut held = lock(&state.held);
        held.mutations += 1;
        let turn = held.mutations.is_multiple_of(3);
        let (results, effect) = mutate::apply(&mut held, entity, change, items, &now, spoil);
        (results, effect, turn)
    };
    let failed = results_in_order.iter().position(Option::is_none);
    let mut list: Vec<Value> = results_in_order
        .into_iter()
        .map(|result| result.map_or(Value::Null, |result| project(&result, results)))
        .collect();
    // Nothing promises an order: every third answer comes back to front. A list with a hole
    // stays in order, because the error path counts positions.
    if turn && failed.is_none() {
        list.reverse();
    }
    if fault == Some(FaultKind::DuplicateIds)
        && let Some(first) = list.first().cloned()
    {
        list.push(first);
    }
    if fault == Some(FaultKind::MissingIds) {
        list.pop();
    }
    let mut body = json!({ "data": { field.name.clone(): { "results": list } } });
    if let (Some(position), Value::Object(object)) = (failed, &mut body) {
        object.insert(
            "errors".into(),
            json!([{
                "message": "Internal error",
                "path": [field.name, "results", position],
                "extensions": { "code": "INTERNAL_SERVER_ERROR" },
            }]),
        );
    }
    Ok((body, effect))
}

fn list(state: &OneState, request: &Request, entity: Entity) -> Result<Value, Refusal> {
    let field = &request.operation.field;
    let (_, _, filter_kind) = entity.list();
    request.check_arguments(&[
        ("filter", filter_kind),
        ("first", "Int"),
        ("after", "String"),
    ])?;
    check_selection(&field.fields, &["edges", "pageInfo"], &field.name)?;
    if let Some(edges) = field.field("edges") {
        check_selection(&edges.fields, &["node", "cursor"], "Edge")?;
        if let Some(node) = edges.field("node") {
            let mut allowed: Vec<&str> = entity.fields().iter().map(|field| field.name).collect();
            allowed.retain(|name| *name != "content");
            allowed.extend(["id", "updatedAt"]);
            check_selection(&node.fields, &allowed, "Node")?;
        }
    }
    let filter = request.argument("filter").unwrap_or(&Value::Null);
    let after = request.argument("after").and_then(Value::as_str);
    let wanted = lookup::wanted(entity, filter, request.number("first"), after)
        .map_err(|message| Refusal::input(message, &field.name))?;
    let page = lookup::page(&lock(&state.held), entity, &wanted);
    let data = json!({ field.name.clone(): project(&page, &field.fields) });
    Ok(json!({ "data": data }))
}
