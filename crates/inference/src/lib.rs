//! Text generation behind one trait, with mistral.rs inside.
