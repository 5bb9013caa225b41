//! JSON Schemas on their way to the grammar: written short, made of this document, bounded.
