//! Results that both facades share: one record's delivery, the outcomes of many, and waits for their end.

pub(crate) mod delivery;
pub(crate) mod end;
pub(crate) mod outcomes;
