//! The one API that never visits Python: Produce requests out and their responses in, versions 3 to 13.

mod reader;
mod request;
mod response;
mod versions;

pub use reader::ParseError;
pub use request::{ProducePartition, ProduceTopic, Segment, encode_request};
pub use response::{NodeEndpoint, PartitionResponse, ProduceResponse, TopicRef, parse_response};
pub use versions::{MAX_VERSION, MIN_VERSION};
