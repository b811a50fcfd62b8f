//! Every bound on what icecore writes and believes of a `_metadata` or a control object.
//!
//! A writer refuses to go over a limit ([`crate::ErrorKind::LimitExceeded`]); a reader refuses
//! before it allocates. Raising one is a change that older builds notice, so `docs/format.md` lists
//! them all.

/// The longest body of a `_metadata`, in bytes.
pub const MAX_METADATA_BODY_BYTES: u64 = 1 << 30;
/// Files of one checkpoint, over all its operators and subtasks.
pub const MAX_FILES: usize = 4_194_304;
/// Operators of one checkpoint.
pub const MAX_OPERATORS: usize = 4_096;
/// Named states of one operator.
pub const MAX_STATES_PER_OPERATOR: usize = 4_096;
/// Key groups of one operator, and so its subtasks (Flink's `UPPER_BOUND_MAX_PARALLELISM`).
pub const MAX_MAX_PARALLELISM: u32 = 32_768;
/// Source positions of one checkpoint.
pub const MAX_SOURCE_POSITIONS: usize = 262_144;
/// Properties of one checkpoint.
pub const MAX_PROPERTIES: usize = 4_096;
/// Any one text: a state's name, a serialiser's, a column family's, a writer's, a source's, in bytes.
pub const MAX_TEXT_BYTES: usize = 1_024;
/// The smallest or largest key of a table, in bytes: RocksDB's advice for the longest key.
pub const MAX_KEY_BYTES: usize = 8 << 20;
/// The position of one source split, in bytes.
pub const MAX_POSITION_BYTES: usize = 1 << 20;
/// The value of one property, in bytes.
pub const MAX_PROPERTY_BYTES: usize = 1 << 20;
/// A segment of a file list ends after so many files.
pub const SEGMENT_FILES: usize = 4_096;
/// A segment of a file list ends, too, once it is at least so long, in bytes.
pub const SEGMENT_BYTES: usize = 4 << 20;
/// The longest segment a reader takes, in bytes: [`SEGMENT_BYTES`] and one file with the longest keys.
pub const MAX_SEGMENT_BYTES: usize = 24 << 20;

/// The longest body of a small control object (claim, end, pin, ref, distrust, request, answer), in bytes.
pub const MAX_SMALL_CONTROL_BODY_BYTES: u64 = 64 << 10;
/// The longest body of a start or a condemned list, in bytes.
pub const MAX_LIST_CONTROL_BODY_BYTES: u64 = 32 << 20;
/// Checkpoints that one start adopts, or one condemned list drops.
pub const MAX_CONTROL_CHECKPOINTS: usize = 65_536;
/// Refs, and pins, that one start adopts.
pub const MAX_CONTROL_HOLDS: usize = 65_536;
/// Objects that one condemned list names. Longer plans are several lists.
pub const MAX_CONDEMNED_OBJECTS: usize = 16_384;
/// A person's reason, a command's argument or answer, in bytes.
pub const MAX_CONTROL_TEXT_BYTES: usize = 16 << 10;
