//! The listener under clients that mean well and clients that do not: real sockets, and the real process where it is
//! about the process.

mod clients;
mod doors;
mod drain;
mod floods;
mod lane;
mod load;
mod overload;
mod scarcity;
mod seams;
mod slow_clients;
mod stalls;
