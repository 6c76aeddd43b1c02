//! The template engine's settings: what output looks like, what is available.

use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use super::{dates, functions, methods, python};

/// An environment without templates. The reference runtime removes `range`.
pub(super) fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_recursion_limit(64);
    env.set_debug(false);
    env.set_formatter(|out, _, value| {
        out.write_str(&python::jinja_text(value))
            .map_err(minijinja::Error::from)
    });
    env.set_unknown_method_callback(methods::call);
    env.remove_global("range");
    env.remove_global("debug");
    functions::add(&mut env);
    dates::add(&mut env);
    env
}
