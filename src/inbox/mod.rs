//! The development inbox: an SMTP sink, a web page, JSON for tests.
