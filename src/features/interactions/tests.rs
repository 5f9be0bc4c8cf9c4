//! Features of interactions: by hand, and by property.
