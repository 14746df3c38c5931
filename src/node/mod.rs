//! The media node: the WhatsApp Business HTTP media API beside the mount, or without one.
