//! One thing that happens, as the four bytes that the search works on.

/// What happens. A `stream`, `call` or `worker` is a choice among those that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are choices, told by their names
pub enum Step {
    /// A request arrives whole.
    Arrive { worker: u8, what: u8, flaw: u8 },
    /// The headers of a request arrive.
    ArriveWithoutBody { worker: u8, what: u8, flaw: u8 },
    /// The body of a request is there, in one of several states.
    Complete { stream: u8, body: u8 },
    /// A piece of a request's body is there, `blocks` of 32 bytes in all.
    Buffer { stream: u8, blocks: u8 },
    /// A client leaves.
    Leave { stream: u8 },
    /// One worker looks at its deadlines, or all do.
    Tick { workers: u8 },
    /// Time passes: so many times 1, 10, 50 or 200 ms.
    Pass { unit: u8, count: u8 },
    /// The clock leaps, by seconds or by minutes, ahead or back.
    Leap { direction: u8, seconds: u8 },
    /// A worker reads one message of its queue, or all.
    ReadQueue { worker: u8, all: u8 },
    /// A call ends.
    EndCall { call: u8, response: u8 },
    /// Something will fail.
    Trouble { kind: u8, extent: u8 },
    /// A worker's VM dies and begins anew.
    Kill { worker: u8 },
    /// All workers read their queues.
    ReadAllQueues,
}

impl Step {
    /// The step that those bytes mean. Whatever they are, they mean one.
    pub(super) fn decode([what, a, b, c]: [u8; 4]) -> Self {
        match what % 16 {
            0..=2 => Self::Arrive { worker: a, what: b, flaw: c },
            3 => Self::ArriveWithoutBody { worker: a, what: b, flaw: c },
            4 => Self::Complete { stream: a, body: b },
            5 => Self::Buffer { stream: a, blocks: b },
            6 => Self::Leave { stream: a },
            7 => Self::Tick { workers: a },
            8 => Self::Pass { unit: a, count: b },
            9 => Self::Leap { direction: a, seconds: b },
            10 => Self::ReadQueue { worker: a, all: b },
            11 | 12 => Self::EndCall { call: a, response: b },
            13 => Self::Trouble { kind: a, extent: b },
            14 => Self::Kill { worker: a },
            _ => Self::ReadAllQueues,
        }
    }

    /// Bytes that mean it.
    pub fn encode(self) -> [u8; 4] {
        match self {
            Self::Arrive { worker, what, flaw } => [0, worker, what, flaw],
            Self::ArriveWithoutBody { worker, what, flaw } => [3, worker, what, flaw],
            Self::Complete { stream, body } => [4, stream, body, 0],
            Self::Buffer { stream, blocks } => [5, stream, blocks, 0],
            Self::Leave { stream } => [6, stream, 0, 0],
            Self::Tick { workers } => [7, workers, 0, 0],
            Self::Pass { unit, count } => [8, unit, count, 0],
            Self::Leap { direction, seconds } => [9, direction, seconds, 0],
            Self::ReadQueue { worker, all } => [10, worker, all, 0],
            Self::EndCall { call, response } => [11, call, response, 0],
            Self::Trouble { kind, extent } => [13, kind, extent, 0],
            Self::Kill { worker } => [14, worker, 0, 0],
            Self::ReadAllQueues => [15, 0, 0, 0],
        }
    }
}

/// What will fail, by [`Step::Trouble`]'s kind.
pub mod trouble {
    /// There are no random numbers, up to three times.
    pub const NO_RANDOM: u8 = 0;
    /// Another worker writes just before, up to 79 times.
    pub const CONTENDED: u8 = 1;
    /// A queue does not take a message, up to three times.
    pub const NOT_SENT: u8 = 2;
    /// A call cannot begin, up to three times.
    pub const NO_CALL: u8 = 3;
    /// The host forgets a request without a word.
    pub const LOST_STREAM: u8 = 4;
    /// As many workers wait for one record as it has room for.
    pub const CROWD: u8 = 5;
    /// A message is taken and never arrives, up to three times.
    pub const LOST_MESSAGE: u8 = 6;
    /// A call is cancelled, and nobody is told.
    pub const CANCELLED_CALL: u8 = 7;
    pub(in crate::exchange) const COUNT: u8 = 8;
}
