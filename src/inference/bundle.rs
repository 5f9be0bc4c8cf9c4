//! A bundle read, checked and ready to serve.
