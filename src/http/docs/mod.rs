//! `/docs`.
use axum::response::Html;
use super::openapi::Open;
/// These pages
#[utoipa::path(get, path = "/docs", operation_id = "docs", tag = "Operations",
    responses((status = 200, description = "The page.", body = String, content_type = "text/html"), Open))]
pub(super) async fn show() -> Html<String> {
    Html(String::new())
}
