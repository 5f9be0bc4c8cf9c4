//! Scores written to the customer's profile on the platform, in whichever shape its client speaks, or to a file.

use std::time::Duration;

use futures_util::future::join_all;

use super::{EachRow, FileSink, ReadRow, Sink, Standing};
use scoreline_genesys::profile::{ProfileUpdate, ProfileWriter, ReadProfile, SeenProfile};
use scoreline_genesys::settings::Api;
use scoreline_genesys::{Genesys, Permits, SendFault};
use scoreline_store::{Claim, Profile};

/// What became of so many is synced together.
const PORTION: usize = 6;
/// To read it, and to write it.
const REQUESTS: u32 = 2;
/// A later score than ours stands for anything but what we would say.
const OTHERS: &str = "newer";

/// Writes custom fields of external contacts, or the guides' `customer_profile_enrichment`.
pub struct ProfileSink {
    platform: Genesys,
    writer: ProfileWriter,
    api: Api,
}

/// A profile as it was read, with what it should say.
pub struct ProfileRow {
    read: ReadProfile,
    update: ProfileUpdate,
}

impl ProfileSink {
    pub fn new(platform: &Genesys, api: Api) -> Self {
        Self { platform: platform.clone(), writer: platform.profiles(), api }
    }

    /// The target of an API: profiles of the one are none of the other's.
    pub fn target_of(api: Api) -> &'static str {
        match api {
            Api::Platform => "profile",
            Api::Documented => "documented_profile",
        }
    }

    async fn read_one(&self, permits: &Permits, claim: &Claim) -> Result<ReadRow<ProfileRow>, SendFault> {
        let refused = |reason: &str| SendFault::Refused { status: 422, reason: reason.to_owned() };
        let profile = profile(claim).ok_or_else(|| refused("the profile that is kept cannot be read"))?;
        let contact = claim.sealed.clone().ok_or_else(|| refused("the customer has no contact on the platform"))?;
        let update = ProfileUpdate {
            contact,
            customer: claim.key,
            predicted_clv_value: profile.value_usd,
            clv_tier: profile.tier,
            confidence_score: profile.confidence,
            risk_score: profile.risk,
            last_calculated_at: profile.calculated_at,
        };
        let read = self.writer.read(permits, &update).await?;
        let standing = match &read.seen {
            SeenProfile::NotRead => Standing::Differs { previous: String::new(), is_foreign: false },
            SeenProfile::AsItWas => Standing::AsItWas,
            SeenProfile::Newer { calculated_at } => {
                Standing::Newer { says: OTHERS.into(), calculated_at: *calculated_at }
            }
            SeenProfile::Differs { tier, calculated_at } => {
                // With the time of our last write and another tier, it was edited by hand since.
                let ours = claim.applied.as_ref().filter(|(_, at)| Some(*at) == *calculated_at);
                let ours = ours.and_then(|(says, at)| Profile::read(says, *at));
                let is_foreign = ours.zip(tier.as_deref()).is_some_and(|(ours, tier)| ours.tier.as_str() != tier);
                Standing::Differs { previous: tier.as_deref().unwrap_or_default().to_owned(), is_foreign }
            }
        };
        Ok(ReadRow { standing, read: ProfileRow { read, update } })
    }
}

/// The profile that a claim is for.
pub(super) fn profile(claim: &Claim) -> Option<Profile> {
    Profile::read(&claim.says, claim.calculated_at)
}

fn without_permits() -> SendFault {
    SendFault::NotSent { until: None, reason: "no permits were taken".to_owned() }
}

impl Sink for ProfileSink {
    type Read = ProfileRow;

    fn target(&self) -> &str {
        Self::target_of(self.api)
    }

    fn portion(&self) -> usize {
        PORTION
    }

    fn reads(&self) -> bool {
        self.api == Api::Platform
    }

    fn is_batched(&self) -> bool {
        false
    }

    fn patience(&self) -> Duration {
        self.platform.patience()
    }

    async fn reserve(&self, rows: usize) -> Result<Option<Permits>, SendFault> {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.platform.reserve(rows.saturating_mul(REQUESTS)).await.map(Some)
    }

    async fn read(
        &self,
        permits: Option<&Permits>,
        claims: &[Claim],
    ) -> Result<EachRow<ReadRow<ProfileRow>>, SendFault> {
        let permits = permits.ok_or_else(without_permits)?;
        Ok(join_all(claims.iter().map(|claim| self.read_one(permits, claim))).await)
    }

    async fn write(&self, permits: Option<&Permits>, rows: &[(&Claim, &ProfileRow)]) -> Result<EachRow<()>, SendFault> {
        let permits = permits.ok_or_else(without_permits)?;
        Ok(join_all(rows.iter().map(|(_, row)| self.writer.write(permits, &row.read, &row.update))).await)
    }
}

/// Where profiles are written to.
pub enum ProfilePlace {
    Platform(ProfileSink),
    File(FileSink),
}

/// What was read there.
pub enum PlaceRow {
    Platform(Box<ProfileRow>),
    File,
}

impl Sink for ProfilePlace {
    type Read = PlaceRow;

    fn target(&self) -> &str {
        match self {
            Self::Platform(sink) => sink.target(),
            Self::File(_) => FileSink::TARGET,
        }
    }

    fn portion(&self) -> usize {
        match self {
            Self::Platform(sink) => sink.portion(),
            Self::File(_) => FileSink::PORTION,
        }
    }

    fn reads(&self) -> bool {
        match self {
            Self::Platform(sink) => sink.reads(),
            Self::File(_) => false,
        }
    }

    fn is_batched(&self) -> bool {
        false
    }

    fn patience(&self) -> Duration {
        match self {
            Self::Platform(sink) => sink.patience(),
            Self::File(_) => FileSink::PATIENCE,
        }
    }

    async fn reserve(&self, rows: usize) -> Result<Option<Permits>, SendFault> {
        match self {
            Self::Platform(sink) => sink.reserve(rows).await,
            Self::File(_) => Ok(None),
        }
    }

    async fn read(&self, permits: Option<&Permits>, claims: &[Claim]) -> Result<EachRow<ReadRow<PlaceRow>>, SendFault> {
        match self {
            Self::Platform(sink) => {
                let read = sink.read(permits, claims).await?;
                let of_place = |row: ReadRow<ProfileRow>| ReadRow {
                    standing: row.standing,
                    read: PlaceRow::Platform(Box::new(row.read)),
                };
                Ok(read.into_iter().map(|row| row.map(of_place)).collect())
            }
            Self::File(_) => {
                let differs = || Standing::Differs { previous: String::new(), is_foreign: false };
                Ok(claims.iter().map(|_| Ok(ReadRow { standing: differs(), read: PlaceRow::File })).collect())
            }
        }
    }

    async fn write(&self, permits: Option<&Permits>, rows: &[(&Claim, &PlaceRow)]) -> Result<EachRow<()>, SendFault> {
        match self {
            Self::Platform(sink) => {
                let mut of_sink: Vec<(&Claim, &ProfileRow)> = Vec::with_capacity(rows.len());
                for (claim, row) in rows {
                    if let PlaceRow::Platform(row) = row {
                        of_sink.push((claim, &**row));
                    }
                }
                sink.write(permits, &of_sink).await
            }
            Self::File(sink) => sink.append(rows.iter().map(|(claim, _)| *claim)).await,
        }
    }
}
