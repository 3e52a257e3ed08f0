//! `/docs`.
use super::openapi::Open;
use axum::response::Html;
/// These pages
#[utoipa::path(get, path = "/docs", operation_id = "docs", tag = "Operations",
    responses((status = 200, description = "The page.", body = String, content_type = "text/html"), Open))]
pub(super) async fn show() -> Html<String> {
    Html(String::new())
}
