/// A server's words as a row can keep them: at most so many characters, and no NUL, which Postgres cannot keep.
pub(super) fn storable(text: &str, most: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(most).collect()
}
