/// Everything that was said on one connection, in order.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// Counted from one.
    pub connection: usize,
    /// One entry for each read and each write.
    pub chunks: Vec<Chunk>,
    /// The server's end is closed.
    pub over: bool,
}

/// What one read or one write of the server carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Who said it.
    pub speaker: Speaker,
    /// It went inside TLS.
    pub encrypted: bool,
    /// The bytes, decrypted.
    pub bytes: Vec<u8>,
}

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// Who connected.
    Client,
    /// The scripted server.
    Server,
}

impl Conversation {
    /// All that the client said.
    pub fn received(&self) -> Vec<u8> {
        self.bytes(|chunk| chunk.speaker == Speaker::Client)
    }

    /// All that the client said that anybody on the way could read, TLS records aside.
    pub fn received_in_clear(&self) -> Vec<u8> {
        self.bytes(|chunk| chunk.speaker == Speaker::Client && !chunk.encrypted)
    }

    /// All that the server said.
    pub fn sent(&self) -> Vec<u8> {
        self.bytes(|chunk| chunk.speaker == Speaker::Server)
    }

    /// Whether the client said these words, in clear or not.
    pub fn heard(&self, words: &str) -> bool {
        self.count(words) > 0
    }

    /// How often the client said these words, in clear or not.
    pub fn count(&self, words: &str) -> usize {
        self.received().windows(words.len().max(1)).filter(|window| *window == words.as_bytes()).count()
    }

    fn bytes(&self, which: impl Fn(&Chunk) -> bool) -> Vec<u8> {
        self.chunks.iter().filter(|chunk| which(chunk)).flat_map(|chunk| chunk.bytes.clone()).collect()
    }
}
