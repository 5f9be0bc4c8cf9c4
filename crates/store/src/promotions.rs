//! Which versions people promoted, the same for every replica.

use super::Store;
use super::db::{Arg, DbRow, Tx};
use super::error::StoreError;
use scoreline_domain::{ModelName, ModelVersion, Promotions};

impl Store {
    /// The promoted versions as they are now.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn promotions(&self) -> Result<Promotions, StoreError> {
        read(&mut self.read("read").await?).await
    }

    /// Keeps a promotion, or its end, with what served before it, the last one last; how things stand with it.
    ///
    /// # Errors
    /// When it is not kept, or that is not known.
    pub async fn promote(
        &self,
        model: &ModelName,
        version: Option<&ModelVersion>,
        before: &[ModelVersion],
    ) -> Result<Promotions, StoreError> {
        let mut tx = self.write("told a promotion").await?;
        tx.take("promotion", 1).await?;
        match version {
            Some(version) => keep(&mut tx, model, version, true).await?,
            None => drop(tx.run("DELETE FROM promotions WHERE model = $1", &[Arg::Text(model.as_str())]).await?),
        }
        tx.run("DELETE FROM served_before WHERE model = $1", &[Arg::Text(model.as_str())]).await?;
        for (place, version) in before.iter().enumerate() {
            const NOTE: &str = "INSERT INTO served_before (model, place, version) VALUES ($1, $2, $3)";
            let place = i64::try_from(place).unwrap_or(i64::MAX);
            tx.run(NOTE, &[Arg::Text(model.as_str()), Arg::Int(place), Arg::Text(version.as_str())]).await?;
        }
        let promotions = read(&mut tx).await?;
        tx.commit().await?;
        Ok(promotions)
    }
}

impl Store {
    /// Keeps the manifest that a lone model file took over, as TOML.
    ///
    /// # Errors
    /// When it is not kept, or that is not known.
    pub async fn keep_manifest(&self, model: &ModelName, version: &ModelVersion, text: &str) -> Result<(), StoreError> {
        const KEEP: &str = "INSERT INTO inherited (model, version, manifest) VALUES ($1, $2, $3) \
                            ON CONFLICT (model, version) DO UPDATE SET manifest = excluded.manifest";
        let mut tx = self.write("told a manifest").await?;
        tx.run(KEEP, &[Arg::Text(model.as_str()), Arg::Text(version.as_str()), Arg::Text(text)]).await?;
        tx.commit().await
    }
}

/// Notes a promotion; unless `replace`, only where there is none.
pub(super) async fn keep(
    tx: &mut Tx,
    model: &ModelName,
    version: &ModelVersion,
    replace: bool,
) -> Result<(), StoreError> {
    const KEEP: &str = "INSERT INTO promotions (model, version) VALUES ($1, $2) ON CONFLICT (model) DO UPDATE \
                        SET version = excluded.version WHERE 1 = $3";
    let args = [Arg::Text(model.as_str()), Arg::Text(version.as_str()), Arg::Int(i64::from(replace))];
    tx.run(KEEP, &args).await?;
    Ok(())
}

async fn read(tx: &mut Tx) -> Result<Promotions, StoreError> {
    let number = tx.row("SELECT value FROM counters WHERE name = 'promotion'", &[]).await?;
    let number = number.map_or(Ok(0), |row| row.int(0))?;
    let mut promotions = Promotions { number, ..Promotions::default() };
    for row in tx.rows("SELECT model, version FROM promotions", &[]).await? {
        let (model, version) = named(&row, "promotions.version")?;
        promotions.versions.insert(model, version);
    }
    for row in tx.rows("SELECT model, version FROM served_before ORDER BY model, place", &[]).await? {
        let (model, version) = named(&row, "served_before.version")?;
        promotions.before.entry(model).or_default().push(version);
    }
    for row in tx.rows("SELECT model, version, manifest FROM inherited", &[]).await? {
        promotions.inherited.insert(named(&row, "inherited.version")?, row.text(2)?.to_owned());
    }
    Ok(promotions)
}

/// Model and version of a row.
fn named(row: &DbRow, column: &'static str) -> Result<(ModelName, ModelVersion), StoreError> {
    let named = ModelName::parse(row.text(0)?).ok().zip(ModelVersion::parse(row.text(1)?).ok());
    let value = || row.text(1).unwrap_or_default().to_owned();
    named.ok_or_else(|| StoreError::Unreadable { column, value: value() })
}
