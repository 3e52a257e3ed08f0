//! Stands in for what cannot be had in a test: an SMTP server that fails on cue.
