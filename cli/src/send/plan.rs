//! What is sent, in which order.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result};
use simulator::wecom::{Account, Event, Request, random_nonce, unix_now};
use wecom_callback_filter::wecom::callback::{Content, EventType};

use crate::send::{Options, VERIFY_URL};

/// What to send next: messages, each followed by its repetitions.
pub(super) struct Plan {
    options: Arc<Options>,
    account: Account,
    message: Option<Vec<u8>>,
    left: u32,
    queue: VecDeque<(Label, Request)>,
}

/// What a request was, for reading its answer.
#[derive(Debug, Clone)]
pub(super) struct Label {
    /// First, replayed or re-encrypted.
    pub(super) copy: &'static str,
    /// The type, where it is a callback.
    pub(super) event: Option<EventType>,
    /// The digits to be echoed, where it checks the URL.
    pub(super) echo: Option<String>,
    pub(super) req_id: Option<String>,
}

impl Plan {
    /// A plan of what the options ask for.
    ///
    /// # Errors
    /// If the message cannot be read.
    pub(super) fn new(options: &Arc<Options>, account: Account) -> Result<Self> {
        let message = match options.message.as_deref() {
            None => None,
            Some("-") => {
                let mut message = Vec::new();
                std::io::stdin().read_to_end(&mut message).context("the standard input")?;
                Some(message)
            }
            Some(file) => Some(std::fs::read(file).with_context(|| file.to_owned())?),
        };
        Ok(Self { options: Arc::clone(options), account, message, left: options.count, queue: VecDeque::new() })
    }

    /// How many requests there will be.
    pub(super) fn total(&self) -> u64 {
        let copies = u64::from(self.options.replay).saturating_add(self.options.re_encrypt.into()).saturating_add(1);
        copies.saturating_mul(self.left.into())
    }

    /// Sealed when asked for, so that the last one is as fresh as the first.
    pub(super) fn next(&mut self) -> Option<(Label, Request)> {
        if self.queue.is_empty() && self.left > 0 {
            self.left = self.left.saturating_sub(1);
            let message = self.compose();
            let (label, request) = self.seal("first", &message);
            for _ in 0..self.options.replay {
                self.queue.push_back((Label { copy: "replayed", ..label.clone() }, request.clone()));
            }
            for _ in 0..self.options.re_encrypt {
                self.queue.push_back(self.seal("re-encrypted", &message));
            }
            self.queue.push_front((label, request));
        }
        self.queue.pop_front()
    }

    /// The plaintext of a new message.
    fn compose(&self) -> Vec<u8> {
        if let Some(message) = &self.message {
            return message.clone();
        }
        if self.options.kind == VERIFY_URL {
            // As many digits as WeCom sends.
            return format!("{}{}", random_nonce(), random_nonce()).into_bytes();
        }
        let event = Event::of(EventType::from_name(&self.options.kind), &self.options.device_sn);
        let event = event.createtime(self.sent_at());
        let event = match &self.options.req_id {
            Some(req_id) => event.req_id(req_id),
            None => event,
        };
        event.to_json(self.account.receive_id())
    }

    fn seal(&self, copy: &'static str, message: &[u8]) -> (Label, Request) {
        let mut request = self.account.seal_at(message, self.sent_at(), &random_nonce());
        let callback = Content::parse(message).ok();
        let mut echo = None;
        if self.options.kind == VERIFY_URL && self.message.is_none() {
            echo = Some(String::from_utf8_lossy(message).into_owned());
            request = request.into_get();
        }
        if self.options.forge {
            request = request.forged();
        }
        if self.options.swap {
            request = request.swapped();
        }
        let event = callback.as_ref().map(|callback| callback.event);
        (Label { copy, event, echo, req_id: callback.and_then(|callback| callback.req_id) }, request)
    }

    fn sent_at(&self) -> u64 {
        unix_now().saturating_add_signed(self.options.age.saturating_neg())
    }
}
