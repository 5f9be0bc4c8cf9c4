//! Under which peppers customers are kept: with another one nobody would be found again.

use super::Store;
use super::db::Arg;
use super::error::StoreError;

impl Store {
    /// Whether nothing is kept of anybody, under whichever pepper.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn is_new(&self) -> Result<bool, StoreError> {
        const ANY: &str = "SELECT (SELECT COUNT(*) FROM peppers), \
                           CAST(CASE WHEN EXISTS (SELECT 1 FROM customers) THEN 1 ELSE 0 END AS BIGINT)";
        let mut tx = self.read("read").await?;
        let Some(row) = tx.row(ANY, &[]).await? else { return Ok(true) };
        Ok(row.int(0)? == 0 && row.int(1)? == 0)
    }

    /// Notes that customers are kept under the first of these peppers from now on. They are given by what tells them
    /// apart, the current one first.
    ///
    /// # Errors
    /// `OtherPepper` when something is kept, and under none of these.
    pub async fn adopt_peppers(&self, ids: &[String]) -> Result<(), StoreError> {
        let Some(current) = ids.first() else { return Ok(()) };
        let mut tx = self.write("told the pepper").await?;
        let rows = tx.rows("SELECT id FROM peppers", &[]).await?;
        let kept: Vec<_> = rows.iter().map(|row| row.text(0).map(str::to_owned)).collect::<Result<_, _>>()?;
        if kept.contains(current) {
            return Ok(());
        }
        if !kept.is_empty() && !kept.iter().any(|id| ids.contains(id)) {
            return Err(StoreError::OtherPepper { kept: kept.join(", "), given: current.clone() });
        }
        tx.run("INSERT INTO peppers (id) VALUES ($1)", &[Arg::Text(current)]).await?;
        tx.commit().await
    }
}
