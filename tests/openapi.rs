#[path = "http/door.rs"]
mod door;
mod support;
use door::Door;
#[tokio::test]
async fn dump() {
    let door = Door::open().await;
    let guarded = Door::guarded().await;
    let token = guarded.token(facteur::http::Role::Admin, None, &[]);
    std::fs::write("target/doors", format!("{} {} {token}", door.base, guarded.base)).unwrap();
    let answer = door.get("/openapi.json").await;
    assert_eq!(answer.status, 200);
    std::fs::write("target/openapi.json", answer.body.to_string()).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3000)).await;
}
