//! redb as the state engine: one file, a redb table for each [`Table`], a commit per batch.

use std::io;
use std::ops::Bound;
use std::path::Path;

use redb::{Builder, Database, OwnedRange, ReadableDatabase, TableDefinition};

use super::error::{FORMAT, Fault, check_format};
use super::guard::Store;
use super::{Batch, Each, Engine, Record, Table};

/// redb's page cache: the whole state fits.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

const FORMAT_TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("format");
const FORMAT_KEY: &[u8] = b"format";

/// An open redb file.
#[derive(Debug)]
pub(super) struct RedbStore(Database);

impl Store for RedbStore {
    const ENGINE: Engine = Engine::Redb;

    fn create(path: &Path) -> Result<(), Fault> {
        let database = builder().create(path)?;
        let write = database.begin_write()?;
        write.open_table(FORMAT_TABLE)?.insert(FORMAT_KEY, FORMAT.to_le_bytes().as_slice())?;
        for table in Table::ALL {
            write.open_table(definition(table))?;
        }
        write.commit()?;
        Ok(())
    }

    fn open(path: &Path) -> Result<Self, Fault> {
        let database = builder().open(path)?;
        let format = {
            let read = database.begin_read()?;
            let table = read.open_table(FORMAT_TABLE)?;
            table.get(FORMAT_KEY)?.map(|guard| guard.value().to_owned())
        };
        check_format(format.as_deref())?;
        // A store of before a table came to be has not got it.
        let lacks_one = {
            let read = database.begin_read()?;
            Table::ALL.into_iter().any(|table| read.open_table(definition(table)).is_err())
        };
        if lacks_one {
            let write = database.begin_write()?;
            for table in Table::ALL {
                write.open_table(definition(table))?;
            }
            write.commit()?;
        }
        Ok(Self(database))
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let found = self.range(table, (Bound::Included(key), Bound::Included(key)))?.next();
        Ok(found.transpose()?.map(|(_, value)| value.value().to_owned()))
    }

    fn scan(&self, table: Table, prefix: &[u8], each: &mut Each<'_>) -> Result<(), Fault> {
        for entry in self.range(table, (Bound::Included(prefix), Bound::Unbounded))? {
            let (key, value) = entry?;
            if !key.value().starts_with(prefix) || each(key.value(), value.value()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn records(&self) -> Result<Vec<Record>, Fault> {
        // All of one transaction, and read when that is gone: see `range`.
        let ranges = {
            let read = self.0.begin_read()?;
            let range = |table| Ok((table, read.open_table(definition(table))?.range_owned::<&[u8]>(..)?));
            Table::ALL.map(range).into_iter().collect::<Result<Vec<_>, Fault>>()?
        };
        let mut records = Vec::new();
        for (table, range) in ranges {
            for entry in range {
                let (key, value) = entry?;
                records.push((table, key.value().to_owned(), value.value().to_owned()));
            }
        }
        Ok(records)
    }

    fn commit(&self, batch: &Batch) -> Result<(), Fault> {
        let write = self.0.begin_write()?;
        for table in Table::ALL {
            let mut ops = batch.iter().filter(|(of, ..)| *of == table).peekable();
            if ops.peek().is_none() {
                continue;
            }
            let mut open = write.open_table(definition(table))?;
            for (_, key, value) in ops {
                match value {
                    Some(value) => open.insert(key, value)?,
                    None => open.remove(key)?,
                };
            }
        }
        write.commit()?;
        Ok(())
    }
}

impl RedbStore {
    /// An iterator that outlives its transaction and table: of the three it alone lets go of what it read before it
    /// lets redb free it. The others do so the other way round, which a debug build of redb may punish with a panic.
    fn range(
        &self,
        table: Table,
        keys: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Result<OwnedRange<&'static [u8], &'static [u8]>, Fault> {
        Ok(self.0.begin_read()?.open_table(definition(table))?.range_owned::<&[u8]>(keys)?)
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // The file is a few megabytes, and a plain open trusts what it reads: a flipped bit may panic much later.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => Fault::Damaged(error.to_string()),
            redb::Error::Io(error) => Fault::Io(error),
            redb::Error::DatabaseAlreadyOpen => Fault::InUse,
            redb::Error::Corrupted(reason) => Fault::Damaged(reason),
            error @ (redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. }) => {
                Fault::Damaged(error.to_string())
            }
            error => Fault::Other(error.to_string()),
        }
    }
}

macro_rules! fault_from {
    ($($error:ty),*) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Fault::from(redb::Error::from(error))
            }
        })*
    };
}

fault_from!(redb::DatabaseError, redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);
