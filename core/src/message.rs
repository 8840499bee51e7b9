//! A message of the `json` protocol, read as a type of the application.

use serde::Deserialize;

use crate::driver::JsonMessage;

impl<'b> JsonMessage<'b> {
    /// Its data as `T`, which may borrow from the message. The text is [`data`](field@Self::data).
    ///
    /// # Errors
    ///
    /// The data is not a `T`, because the event's schema accepts more.
    /// [`Conn::report_invalid_data`](crate::Conn::report_invalid_data) makes that the peer's violation.
    pub fn data<T: Deserialize<'b>>(&self) -> Result<T, serde_json::Error> {
        self.data.parse()
    }
}
