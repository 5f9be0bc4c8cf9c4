//! `scoreline score`: files of millions of rows through a model.
