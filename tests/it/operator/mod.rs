//! The operator's page: what it says in each state, who may see it and act on it, how it goes on, and that it names nobody.

mod browser;
mod page;
mod served;
