//! Arrow IPC: the stream that engines pipe batch by batch, and the file, which has its end in front of its reader.
//!
//! A stream tells that it is complete by a mark at its end. One without was cut, however well its last batch ends.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Cursor, Read, Seek as _, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, anyhow, bail};
use arrow_array::cast::AsArray as _;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::SchemaRef;

use super::chunk::{CHUNK_ROWS, Chunk};
use super::source::{Counted, Input, Layout, Length, READ_BUFFER, Source, open_file};

/// What a file begins with, and no stream.
const FILE_MARK: &[u8] = b"ARROW1";
/// What a stream ends with: a message that is announced and has no bytes.
const END_MARK: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

type Bytes = Box<dyn Read + Send>;

/// Opens `path` (`-` is standard input), a stream or, where it can be read from its end, a file.
pub(super) fn open(path: &Path) -> anyhow::Result<Input> {
    let shown = path.display();
    let (mut bytes, file, length): (Bytes, _, _) = if path.as_os_str() == "-" {
        (Box::new(io::stdin()), None, Length::Unknown)
    } else {
        let file = open_file(path)?;
        let (again, metadata) = (file.try_clone()?, file.metadata()?);
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: file, read: Arc::clone(&read) };
        let seekable = metadata.is_file().then_some(again);
        let length = if seekable.is_some() { Length::Bytes(metadata.len(), read) } else { Length::Unknown };
        (Box::new(counted), seekable, length)
    };
    let read = || format!("`{shown}` cannot be read as Arrow");
    let mut first = Vec::with_capacity(FILE_MARK.len());
    bytes.by_ref().take(FILE_MARK.len() as u64).read_to_end(&mut first).with_context(read)?;
    if first != FILE_MARK {
        // A message, or its length as it was written before 2019; what is neither would be taken for a length.
        let is_length = first.get(3).is_none_or(|highest| *highest == 0);
        if !is_length && !first.starts_with(&END_MARK[..4]) {
            return Err(anyhow!("it begins as no stream does")).with_context(read);
        }
        let bytes = BufReader::with_capacity(READ_BUFFER, Box::new(Cursor::new(first).chain(bytes)) as Bytes);
        let begin = || Ok(StreamReader::try_new(Ended { bytes, last: [0; 8] }, None)?);
        let stream = guarded(begin).with_context(read)?;
        return Ok(input(stream.schema(), Reader::Stream(Box::new(stream)), length));
    }
    let Some(mut file) = file else {
        bail!("`{shown}` is the Arrow file format, which is read from its end: send a stream, or give a file");
    };
    file.rewind()?;
    let begin = || Ok(FileReader::try_new(BufReader::with_capacity(READ_BUFFER, file), None)?);
    let reader = guarded(begin).with_context(read)?;
    Ok(input(reader.schema(), Reader::File(Box::new(reader)), Length::Unknown))
}

/// What the Arrow reader gives. It trusts the lengths in a message's head and panics at some that lead beyond its body.
fn guarded<T>(read: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(anyhow!("its bytes are damaged")))
}

fn input(schema: SchemaRef, reader: Reader, length: Length) -> Input {
    let columns = schema.fields().iter().map(|field| field.name().clone()).collect();
    Input { layout: Layout { columns, schema: Some(schema) }, rows: Box::new(Batches { reader, rest: None }), length }
}

enum Reader {
    Stream(Box<StreamReader<Ended>>),
    File(Box<FileReader<BufReader<File>>>),
}

/// Batches as they come, a large one in pieces.
struct Batches {
    reader: Reader,
    /// What follows of the batch that was read last.
    rest: Option<RecordBatch>,
}

impl Batches {
    fn read(&mut self) -> anyhow::Result<Option<RecordBatch>> {
        let reader = &mut self.reader;
        let batch = guarded(|| {
            let batch = match reader {
                Reader::Stream(stream) => stream.next(),
                Reader::File(file) => file.next(),
            };
            Ok(batch.transpose()?)
        })?;
        if let (None, Reader::Stream(stream)) = (&batch, &mut self.reader) {
            stream.get_mut().refuse_a_cut()?;
        }
        Ok(batch)
    }
}

impl Source for Batches {
    fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        let batch = match self.rest.take() {
            Some(rest) => rest,
            None => match self.read()? {
                Some(batch) => batch,
                None => return Ok(None),
            },
        };
        if batch.num_rows() <= CHUNK_ROWS {
            return Ok(Some(Chunk::Batch(batch)));
        }
        self.rest = Some(batch.slice(CHUNK_ROWS, batch.num_rows() - CHUNK_ROWS));
        Ok(Some(Chunk::Batch(batch.slice(0, CHUNK_ROWS))))
    }
}

/// The bytes of a stream, with the last of those that were read.
struct Ended {
    bytes: BufReader<Bytes>,
    last: [u8; 8],
}

impl Read for Ended {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        for byte in &buffer[count.saturating_sub(self.last.len())..count] {
            self.last.rotate_left(1);
            self.last[7] = *byte;
        }
        Ok(count)
    }
}

impl Ended {
    /// Refuses a stream that ended without its mark, and one that something follows, such as a second stream.
    fn refuse_a_cut(&mut self) -> anyhow::Result<()> {
        if self.last != END_MARK {
            bail!("the stream has no end mark: it was cut, or whoever writes it did not close it");
        }
        if self.bytes.read(&mut [0])? > 0 {
            bail!("something follows the end of the stream: send one stream at a time");
        }
        Ok(())
    }
}

/// An output in one of the two forms.
pub(super) enum Writer {
    Stream(Box<StreamWriter<Box<dyn Write + Send>>>),
    File(Box<FileWriter<BufWriter<File>>>),
}

impl Writer {
    /// Begins a stream. Its schema is sent at once: whoever reads waits for it.
    pub(super) fn stream(out: Box<dyn Write + Send>, schema: &SchemaRef) -> anyhow::Result<Self> {
        let mut stream = Box::new(StreamWriter::try_new(out, schema)?);
        stream.flush()?;
        Ok(Self::Stream(stream))
    }

    pub(super) fn file(file: File, schema: &SchemaRef) -> anyhow::Result<Self> {
        Ok(Self::File(Box::new(FileWriter::try_new_buffered(file, schema)?)))
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        match self {
            Self::Stream(stream) => {
                stream.write(batch)?;
                Ok(stream.flush()?)
            }
            Self::File(file) => file.write(batch).map_err(|err| {
                if !err.to_string().contains("Dictionary replacement") {
                    return err.into();
                }
                anyhow!(
                    "the dictionary of a column changes, which the Arrow file format has no way to say: name the output \
                     .arrows, a stream"
                )
            }),
        }
    }

    /// Writes the end, without which a stream counts as cut.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Stream(mut stream) => {
                stream.finish()?;
                Ok(stream.flush()?)
            }
            Self::File(mut file) => {
                file.finish()?;
                Ok(file.flush()?)
            }
        }
    }
}

/// A column that carries no more text than it shows: a piece of a column of views points to the text of all pieces.
pub(super) fn compact(column: &ArrayRef) -> ArrayRef {
    if let Some(texts) = column.as_string_view_opt() {
        return Arc::new(texts.gc());
    }
    column.as_binary_view_opt().map_or_else(|| Arc::clone(column), |bytes| Arc::new(bytes.gc()))
}
