//! Plans applied to a made-up host.
