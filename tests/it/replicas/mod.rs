//! Replicas: processes that share one PostgreSQL agree with each other, whichever of them is killed and whatever the database
//! does. The rate window that they share is held by `pace`.

mod cluster;
mod failover;
mod fleet;
mod forwarder;
mod killed;
mod story;
mod trouble;
mod upgrade;
