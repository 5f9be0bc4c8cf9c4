//! Statements over many rows: `VALUES` with a parameter for each value in SQLite, an array for each column in PostgreSQL.

use std::fmt::Write as _;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Sqlite, SqliteConnection};

/// Rows of one SQLite statement: few enough for its limit of 32,766 parameters with 16 columns, many enough that what a
/// statement costs does not count.
const SQLITE_ROWS: usize = 512;

/// The values of one column, row by row. All columns of a statement are equally long.
#[derive(Clone, Debug)]
pub(crate) enum BulkColumn {
    Ints(Vec<i64>),
    OptInts(Vec<Option<i64>>),
    Reals(Vec<f64>),
    OptReals(Vec<Option<f64>>),
    Texts(Vec<String>),
    Keys(Vec<[u8; 32]>),
    Ids(Vec<[u8; 16]>),
    Bytes(Vec<Vec<u8>>),
    OptBytes(Vec<Option<Vec<u8>>>),
}

impl BulkColumn {
    fn len(&self) -> usize {
        match self {
            Self::Ints(values) => values.len(),
            Self::OptInts(values) => values.len(),
            Self::Reals(values) => values.len(),
            Self::OptReals(values) => values.len(),
            Self::Texts(values) => values.len(),
            Self::Keys(values) => values.len(),
            Self::Ids(values) => values.len(),
            Self::Bytes(values) => values.len(),
            Self::OptBytes(values) => values.len(),
        }
    }

    fn postgres_type(&self) -> &'static str {
        match self {
            Self::Ints(_) | Self::OptInts(_) => "BIGINT",
            Self::Reals(_) | Self::OptReals(_) => "DOUBLE PRECISION",
            Self::Texts(_) => "TEXT",
            Self::Keys(_) | Self::Ids(_) | Self::Bytes(_) | Self::OptBytes(_) => "BYTEA",
        }
    }
}

type SqliteQuery = Query<'static, Sqlite, SqliteArguments>;
type PostgresQuery = Query<'static, Postgres, PgArguments>;

pub(super) async fn sqlite(
    connection: &mut SqliteConnection,
    sql: &str,
    columns: &[BulkColumn],
) -> Result<u64, sqlx::Error> {
    let mut changed = 0;
    for query in sqlite_queries(sql, columns) {
        changed += query.execute(&mut *connection).await?.rows_affected();
    }
    Ok(changed)
}

pub(super) async fn sqlite_rows(
    connection: &mut SqliteConnection,
    sql: &str,
    columns: &[BulkColumn],
) -> Result<Vec<super::DbRow>, sqlx::Error> {
    let mut rows = Vec::new();
    for query in sqlite_queries(sql, columns) {
        let found: Vec<SqliteRow> = query.fetch_all(&mut *connection).await?;
        rows.extend(found.into_iter().map(super::DbRow::Sqlite));
    }
    Ok(rows)
}

pub(super) async fn postgres(
    connection: &mut PgConnection,
    sql: &str,
    columns: &[BulkColumn],
) -> Result<u64, sqlx::Error> {
    let Some(query) = postgres_query(sql, columns) else { return Ok(0) };
    Ok(query.execute(connection).await?.rows_affected())
}

pub(super) async fn postgres_rows(
    connection: &mut PgConnection,
    sql: &str,
    columns: &[BulkColumn],
) -> Result<Vec<super::DbRow>, sqlx::Error> {
    let Some(query) = postgres_query(sql, columns) else { return Ok(Vec::new()) };
    let found: Vec<PgRow> = query.fetch_all(connection).await?;
    Ok(found.into_iter().map(super::DbRow::Postgres).collect())
}

fn rows_of(columns: &[BulkColumn]) -> usize {
    let rows = columns.first().map_or(0, BulkColumn::len);
    debug_assert!(columns.iter().all(|column| column.len() == rows), "columns are equally long");
    rows
}

fn sqlite_queries(sql: &str, columns: &[BulkColumn]) -> impl Iterator<Item = SqliteQuery> {
    let rows = rows_of(columns);
    (0..rows).step_by(SQLITE_ROWS).map(move |first| {
        let end = rows.min(first + SQLITE_ROWS);
        // Statements of whole chunks stay prepared; each last one differs.
        let mut query = sqlx::query(AssertSqlSafe(sql.replace("{rows}", &placeholders(end - first, columns.len()))))
            .persistent(end - first == SQLITE_ROWS);
        for row in first..end {
            for column in columns {
                query = match column {
                    BulkColumn::Ints(values) => query.bind(values[row]),
                    BulkColumn::OptInts(values) => query.bind(values[row]),
                    BulkColumn::Reals(values) => query.bind(values[row]),
                    BulkColumn::OptReals(values) => query.bind(values[row]),
                    BulkColumn::Texts(values) => query.bind(values[row].clone()),
                    BulkColumn::Keys(values) => query.bind(values[row].to_vec()),
                    BulkColumn::Ids(values) => query.bind(values[row].to_vec()),
                    BulkColumn::Bytes(values) => query.bind(values[row].clone()),
                    BulkColumn::OptBytes(values) => query.bind(values[row].clone()),
                };
            }
        }
        query
    })
}

/// `VALUES (?,?),(?,?)`.
fn placeholders(rows: usize, columns: usize) -> String {
    let row = format!("({}?)", "?,".repeat(columns.saturating_sub(1)));
    let mut text = String::with_capacity(7 + rows * (row.len() + 1));
    text.push_str("VALUES ");
    for number in 0..rows {
        if number > 0 {
            text.push(',');
        }
        text.push_str(&row);
    }
    text
}

fn postgres_query(sql: &str, columns: &[BulkColumn]) -> Option<PostgresQuery> {
    if rows_of(columns) == 0 {
        return None;
    }
    let mut arrays = String::from("SELECT * FROM UNNEST(");
    for (number, column) in columns.iter().enumerate() {
        let comma = if number > 0 { ", " } else { "" };
        let _ = write!(arrays, "{comma}${}::{}[]", number + 1, column.postgres_type());
    }
    arrays.push(')');
    let mut query = sqlx::query(AssertSqlSafe(sql.replace("{rows}", &arrays)));
    for column in columns {
        query = match column {
            BulkColumn::Ints(values) => query.bind(&values[..]),
            BulkColumn::OptInts(values) => query.bind(&values[..]),
            BulkColumn::Reals(values) => query.bind(&values[..]),
            BulkColumn::OptReals(values) => query.bind(&values[..]),
            BulkColumn::Texts(values) => query.bind(&values[..]),
            BulkColumn::Keys(values) => query.bind(&values[..]),
            BulkColumn::Ids(values) => query.bind(&values[..]),
            BulkColumn::Bytes(values) => query.bind(&values[..]),
            BulkColumn::OptBytes(values) => query.bind(&values[..]),
        };
    }
    Some(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_rows_is_written_in_each_database_s_way() {
        assert_eq!(placeholders(2, 3), "VALUES (?,?,?),(?,?,?)");
        let columns = [BulkColumn::Ints(vec![1]), BulkColumn::Ids(vec![[0; 16]])];
        let query = postgres_query("INSERT INTO t {rows}", &columns).expect("rows");
        let sql = sqlx::Execute::sql(query);
        assert_eq!(sql.as_str(), "INSERT INTO t SELECT * FROM UNNEST($1::BIGINT[], $2::BYTEA[])");
    }

    #[test]
    fn no_rows_are_no_statement() {
        assert_eq!(sqlite_queries("{rows}", &[BulkColumn::Ints(Vec::new())]).count(), 0);
        assert!(postgres_query("{rows}", &[BulkColumn::Ints(Vec::new())]).is_none());
    }
}
