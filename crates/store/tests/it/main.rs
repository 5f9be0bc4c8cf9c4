//! The store: one suite on both databases, and what only an SQLite file can suffer.

#![expect(unreachable_pub, reason = "nothing is outside of a test")]

mod conversations;
mod erasing;
mod feature_rows;
mod file;
mod ground;
mod holders;
mod kill;
mod leads;
mod order;
mod outbox;
mod pace;
mod peppers;
mod questions;
mod rates;
mod recording;
mod records;
mod replay_log;
mod rows;
mod scanning;
mod small_disk;
mod trouble;

/// Runs each test on an SQLite file and on a real PostgreSQL.
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $test() {
                let ground = crate::ground::Ground::sqlite();
                super::$test(&ground).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test] async fn $test() {
                let ground = crate::ground::Ground::postgres(stringify!($test)).await;
                super::$test(&ground).await;
                ground.remove().await;
            })+
        }
    };
}
pub(crate) use on_both;
