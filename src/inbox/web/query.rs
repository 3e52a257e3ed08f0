//! The parameters of the JSON routes: each at most once, unknown ones refused.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;

use super::failure::Failure;

/// What the extractor gives.
pub(super) type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// The values of `names`, in their order.
pub(super) fn take<const N: usize>(pairs: Pairs, names: [&str; N]) -> Result<[Option<String>; N], Failure> {
    let Query(pairs) = pairs.map_err(|_| Failure::refused_value("the query cannot be read"))?;
    let mut values = [const { None }; N];
    for (name, value) in pairs {
        let Some(place) = names.iter().position(|known| *known == name) else {
            return Err(Failure::refused_value(format!(
                "{} is not a parameter here; there are: {}",
                excerpt(&name),
                names.join(", ")
            )));
        };
        if values[place].replace(value).is_some() {
            return Err(Failure::refused_value(format!("{name} is given twice")));
        }
    }
    Ok(values)
}

/// At most 64 characters of what the caller sent, escaped.
pub(super) fn excerpt(text: &str) -> String {
    format!("\"{}\"", text.escape_debug().take(64).collect::<String>())
}
