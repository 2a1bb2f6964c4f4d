//! Verdicts on `bind`: the table of codes, and how a decision endpoint's reply becomes one
//! (document 95987).

use serde::{Deserialize, Serialize};

use super::json::Object;

/// Longest `errmsg` kept, in bytes. WeCom shows its own text for each code, so a longer one is cut,
/// at a character's end, and the record of a verdict stays of fixed size.
pub const MAX_ERRMSG_LEN: usize = 96;

/// The documented codes with the texts WeCom shows for them. Others are legal and shown as an
/// unknown reason. For 0 the text is ignored.
pub const ERRCODES: [(u32, &str); 9] = [
    (0, "ok"),
    (1, "设备离线，请检查设备网络连接后重试"),
    (2, "设备已被绑定，请解绑后重试"),
    (3, "设备存在本地数据，请重置设备后重试"),
    (4, "设备验证码校验不通过"),
    (5, "设备未解除绑定，请稍后重试或联系设备厂商处理"),
    (6, "验证码校验失败，请检查后重试"),
    (7, "设备当前无法绑定，请稍后重试或联系设备厂商处理"),
    (1999, "设备正在解绑中，请稍候重试"),
];

/// [`Verdict::fail_closed`] as JSON.
pub(super) const FAIL_CLOSED: &str = r#"{"errcode":7,"errmsg":"设备当前无法绑定，请稍后重试或联系设备厂商处理"}"#;

/// A verdict on a `bind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    errcode: u32,
    errmsg: String,
}

impl Verdict {
    /// The verdict with that code; its text, if none is given, from the table.
    pub fn new(errcode: u32, errmsg: Option<String>) -> Self {
        let mut errmsg = errmsg.unwrap_or_else(|| {
            ERRCODES.iter().find(|(code, _)| *code == errcode).map_or("", |(_, text)| *text).to_owned()
        });
        errmsg.truncate(errmsg.floor_char_boundary(MAX_ERRMSG_LEN));
        Self { errcode, errmsg }
    }

    /// Errcode 7, what every failure ends as.
    pub fn fail_closed() -> Self {
        Self::new(7, None)
    }

    /// Reads a decision endpoint's JSON: an object whose `errcode` is an unsigned 32-bit integer.
    /// `None` for anything else.
    pub fn from_json(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Decision {
            errcode: u32,
            errmsg: Option<String>,
        }

        let Object(decision) = serde_json::from_slice::<Object<Decision>>(body).ok()?;
        Some(Self::new(decision.errcode, decision.errmsg))
    }

    /// 0 binds the device; anything else refuses.
    pub fn errcode(&self) -> u32 {
        self.errcode
    }

    /// The text that goes with it, at most [`MAX_ERRMSG_LEN`] bytes.
    pub fn errmsg(&self) -> &str {
        &self.errmsg
    }

    /// The plaintext to seal: `{"errcode":…,"errmsg":…}`.
    pub fn to_json(&self) -> Vec<u8> {
        // A number and a string can always be written.
        serde_json::to_vec(self).unwrap_or_else(|_| FAIL_CLOSED.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::restriction)]
    use super::super::callback::EventType;
    use super::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    fn read(body: &str) -> Option<(u32, String)> {
        Verdict::from_json(body.as_bytes()).map(|v| (v.errcode, v.errmsg))
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_decision_is_an_object_with_an_unsigned_errcode() {
        assert_eq!(read(r#"{"errcode":0}"#), Some((0, "ok".into())));
        assert_eq!(read(r#" {"errcode":4,"errmsg":null,"more":[1]} "#), Some((4, "设备验证码校验不通过".into())));
        assert_eq!(read(r#"{"errmsg":"x","errcode":4294967295}"#), Some((u32::MAX, "x".into())));
        assert_eq!(read(r#"{"errcode":77}"#), Some((77, String::new())));
        for bad in [
            "",
            "0",
            "[0]",
            r#"[0,"ok"]"#,
            "{}",
            "null",
            "success",
            "<html></html>",
            r#"{"errcode":"0"}"#,
            r#"{"errcode":-1}"#,
            r#"{"errcode":0.5}"#,
            r#"{"errcode":0.0}"#,
            r#"{"errcode":4294967296}"#,
            r#"{"errcode":null}"#,
            r#"{"errcode":true}"#,
            r#"{"errcode":0}x"#,
            r#"{"errcode":0"#,
            r#"{"errcode":0,"errcode":7}"#,
            r#"{"errcode":0,"errmsg":1}"#,
            r#"{"Errcode":0}"#,
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn failing_closed_says_the_same_everywhere() {
        assert_eq!(Verdict::fail_closed().to_json(), EventType::Bind.refusal().unwrap().as_bytes());
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_long_errmsg_is_cut_between_characters() {
        let verdict = Verdict::new(9, Some("设".repeat(100)));
        assert_eq!(verdict.errmsg(), "设".repeat(32));
        let verdict = Verdict::new(9, Some(format!("x{}", "设".repeat(100))));
        assert_eq!(verdict.errmsg(), format!("x{}", "设".repeat(31)));
    }
}
