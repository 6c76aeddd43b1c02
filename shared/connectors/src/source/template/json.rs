//! JSON values as template values without copying them whole.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, Serde, Value as Jinja};
use serde_json::{Map, Value};

/// A template value of a JSON value, converted whole.
pub fn of(value: &Value) -> Jinja {
    Jinja::from(Serde(value))
}

/// A record or response shared with templates: only the parts a template looks at are converted.
pub fn shared(map: &Arc<Map<String, Value>>) -> Jinja {
    Jinja::from_dyn_object(Arc::new(Shared(Arc::clone(map))))
}

#[derive(Debug)]
struct Shared(Arc<Map<String, Value>>);

impl Object for Shared {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        self.0.get(key.as_str()?).map(of)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.keys().map(Jinja::from).collect())
    }
}
