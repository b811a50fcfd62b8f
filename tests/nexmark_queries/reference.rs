//! What each query asks, computed from all events at once, in one thread and with plain collections.

use std::collections::{BTreeMap, BTreeSet};

use nexmark::event::{Auction, Event, Person};

use crate::queries::q3_local_items::LocalItem;
use crate::queries::q4_category_averages::CategoryAverage;
use crate::queries::q5_hot_items::HotItem;
use crate::queries::q6_seller_averages::{RECENT_AUCTIONS, SellerAverage};
use crate::queries::q7_highest_bids::HighestBid;
use crate::queries::q8_new_sellers::NewSeller;
use crate::queries::q9_winning_bids::WinningBid;
use crate::queries::q11_sessions::{SESSION_GAP_MS, Session};
use crate::queries::q17_auction_statistics::{AuctionDay, DAY_MS, RANKS_FROM};
use crate::queries::q18_last_bids::LastBid;
use crate::queries::q19_top_bids::{RANKS, TopBid};
use crate::queries::q20_expanded_bids::ExpandedBid;
use crate::queries::records::Bid;
use crate::queries::window::{SLIDE_MS, WINDOW_MS};

fn bids(events: &[Event]) -> impl Iterator<Item = Bid> {
    events.iter().filter_map(|event| match event {
        Event::Bid(bid) => {
            let (auction, bidder, price) = (bid.auction as u64, bid.bidder as u64, bid.price as u64);
            Some(Bid { auction, bidder, price, at_ms: bid.date_time as i64 })
        }
        _ => None,
    })
}

fn auctions(events: &[Event]) -> impl Iterator<Item = &Auction> {
    events.iter().filter_map(|event| match event {
        Event::Auction(auction) => Some(auction),
        _ => None,
    })
}

fn people(events: &[Event]) -> impl Iterator<Item = &Person> {
    events.iter().filter_map(|event| match event {
        Event::Person(person) => Some(person),
        _ => None,
    })
}

fn tumbling_end_ms(at_ms: i64) -> i64 {
    (at_ms / WINDOW_MS + 1) * WINDOW_MS
}

pub fn local_items(events: &[Event]) -> Vec<LocalItem> {
    let mut all = Vec::new();
    for auction in auctions(events).filter(|auction| auction.category == 10) {
        for person in people(events).filter(|person| person.id == auction.seller) {
            if ["or", "id", "ca"].contains(&person.state.as_str()) {
                let (name, city, state) = (person.name.clone(), person.city.clone(), person.state.clone());
                all.push(LocalItem { name, city, state, auction: auction.id as u64 });
            }
        }
    }
    all
}

pub fn hot_items(events: &[Event]) -> Vec<HotItem> {
    let mut counts: BTreeMap<i64, BTreeMap<u64, u64>> = BTreeMap::new();
    for bid in bids(events) {
        let mut window_end_ms = (bid.at_ms / SLIDE_MS + 1) * SLIDE_MS;
        while window_end_ms - WINDOW_MS <= bid.at_ms {
            *counts.entry(window_end_ms).or_default().entry(bid.auction).or_default() += 1;
            window_end_ms += SLIDE_MS;
        }
    }
    let mut all = Vec::new();
    for (window_end_ms, counts) in counts {
        let most = counts.values().copied().max().unwrap();
        let hottest = counts.into_iter().filter(|(_, bids)| *bids == most);
        all.extend(hottest.map(|(auction, bids)| HotItem { window_end_ms, auction, bids }));
    }
    all
}

pub fn highest_bids(events: &[Event]) -> Vec<HighestBid> {
    let mut windows: BTreeMap<i64, Vec<Bid>> = BTreeMap::new();
    for bid in bids(events) {
        windows.entry(tumbling_end_ms(bid.at_ms)).or_default().push(bid);
    }
    let mut all = Vec::new();
    for (window_end_ms, bids) in windows {
        let price = bids.iter().map(|bid| bid.price).max().unwrap();
        let highest = bids.into_iter().filter(|bid| bid.price == price);
        all.extend(highest.map(|bid| HighestBid { window_end_ms, bid }));
    }
    all
}

pub fn new_sellers(events: &[Event]) -> Vec<NewSeller> {
    let opened: BTreeSet<(i64, usize)> =
        auctions(events).map(|auction| (tumbling_end_ms(auction.date_time as i64), auction.seller)).collect();
    let registered = people(events).map(|person| (tumbling_end_ms(person.date_time as i64), person));
    let both = registered.filter(|(window_end_ms, person)| opened.contains(&(*window_end_ms, person.id)));
    both.map(|(window_end_ms, person)| {
        let (person, name) = (person.id as u64, person.name.clone());
        NewSeller { window_end_ms, person, name }
    })
    .collect()
}

/// Auctions that got a bid, with the one that won, in the order in which they closed.
fn won(events: &[Event]) -> Vec<(&Auction, Bid)> {
    let mut all = Vec::new();
    for auction in auctions(events) {
        let open = auction.date_time as i64..=auction.expires as i64;
        let mut valid: Vec<Bid> =
            bids(events).filter(|bid| bid.auction == auction.id as u64 && open.contains(&bid.at_ms)).collect();
        valid.sort_by_key(|bid| (u64::MAX - bid.price, bid.at_ms, bid.bidder));
        all.extend(valid.first().map(|best| (auction, *best)));
    }
    all.sort_by_key(|(auction, _)| (auction.expires, auction.id));
    all
}

pub fn winning_bids(events: &[Event]) -> Vec<WinningBid> {
    let winning = |(auction, bid): (&Auction, Bid)| {
        let (closed_ms, seller) = (auction.expires as i64, auction.seller as u64);
        WinningBid { closed_ms, seller, bid }
    };
    won(events).into_iter().map(winning).collect()
}

pub fn category_averages(events: &[Event]) -> Vec<CategoryAverage> {
    let mut prices: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    // The last one of a moment has all of that.
    let mut all: BTreeMap<(i64, u64), CategoryAverage> = BTreeMap::new();
    for (auction, bid) in won(events) {
        let (closed_ms, category) = (auction.expires as i64, auction.category as u64);
        let prices = prices.entry(category).or_default();
        prices.push(bid.price);
        let (auctions, sum) = (prices.len() as u64, prices.iter().sum::<u64>());
        let average = CategoryAverage { closed_ms, category, auctions, average_price: sum / auctions };
        all.insert((closed_ms, category), average);
    }
    all.into_values().collect()
}

pub fn seller_averages(events: &[Event]) -> Vec<SellerAverage> {
    let mut prices: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut all = Vec::new();
    for (auction, bid) in won(events) {
        let (closed_ms, seller) = (auction.expires as i64, auction.seller as u64);
        let prices = prices.entry(seller).or_default();
        prices.push(bid.price);
        let recent = &prices[prices.len().saturating_sub(RECENT_AUCTIONS)..];
        let average_price = recent.iter().sum::<u64>() / recent.len() as u64;
        all.push(SellerAverage { closed_ms, seller, auction: auction.id as u64, average_price });
    }
    all
}

pub fn sessions(events: &[Event]) -> Vec<Session> {
    let mut by_bidder: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    for bid in bids(events) {
        by_bidder.entry(bid.bidder).or_default().push(bid.at_ms);
    }
    let mut all: Vec<Session> = Vec::new();
    for (bidder, mut times) in by_bidder {
        times.sort_unstable();
        for at_ms in times {
            match all.last_mut().filter(|last| last.bidder == bidder && at_ms - last.last_ms <= SESSION_GAP_MS) {
                Some(session) => {
                    session.last_ms = at_ms;
                    session.bids += 1;
                }
                None => all.push(Session { first_ms: at_ms, last_ms: at_ms, bidder, bids: 1 }),
            }
        }
    }
    all
}

pub fn auction_days(events: &[Event]) -> Vec<AuctionDay> {
    let mut days: BTreeMap<(i64, u64), Vec<u64>> = BTreeMap::new();
    for bid in bids(events) {
        days.entry(((bid.at_ms / DAY_MS + 1) * DAY_MS, bid.auction)).or_default().push(bid.price);
    }
    let statistics = |((day_end_ms, auction), prices): ((i64, u64), Vec<u64>)| AuctionDay {
        day_end_ms,
        auction,
        ranks: [
            prices.iter().filter(|price| **price < RANKS_FROM[0]).count() as u64,
            prices.iter().filter(|price| (RANKS_FROM[0]..RANKS_FROM[1]).contains(price)).count() as u64,
            prices.iter().filter(|price| **price >= RANKS_FROM[1]).count() as u64,
        ],
        least: *prices.iter().min().unwrap(),
        greatest: *prices.iter().max().unwrap(),
        sum: prices.iter().sum(),
    };
    days.into_iter().map(statistics).collect()
}

pub fn last_bids(events: &[Event]) -> Vec<LastBid> {
    let mut made: BTreeMap<(u64, u64), BTreeMap<i64, Bid>> = BTreeMap::new();
    for bid in bids(events) {
        let of_moment = made.entry((bid.bidder, bid.auction)).or_default().entry(bid.at_ms).or_insert(bid);
        if of_moment.price < bid.price {
            *of_moment = bid;
        }
    }
    let mut all = Vec::new();
    for made in made.into_values() {
        let mut instead_of_ms = None;
        for (at_ms, bid) in made {
            all.push(LastBid { bid, instead_of_ms });
            instead_of_ms = Some(at_ms);
        }
    }
    all
}

pub fn top_bids(events: &[Event]) -> Vec<TopBid> {
    let mut by_auction: BTreeMap<u64, Vec<Bid>> = BTreeMap::new();
    for bid in bids(events) {
        by_auction.entry(bid.auction).or_default().push(bid);
    }
    let mut all = Vec::new();
    for mut bids in by_auction.into_values() {
        bids.sort_unstable_by_key(|bid| (bid.at_ms, u64::MAX - bid.price, bid.bidder));
        for (number, bid) in bids.iter().enumerate() {
            let above = bids[..number].iter().filter(|earlier| earlier.price >= bid.price).count();
            if above < RANKS {
                all.push(TopBid { bid: *bid, above: above as u64 });
            }
        }
    }
    all
}

pub fn expanded_bids(events: &[Event]) -> Vec<ExpandedBid> {
    let mut all = Vec::new();
    for auction in auctions(events).filter(|auction| auction.category == 10) {
        let open = auction.date_time as i64..=auction.expires as i64;
        let on_it = bids(events).filter(|bid| bid.auction == auction.id as u64 && open.contains(&bid.at_ms));
        let (item, seller) = (&auction.item_name, auction.seller as u64);
        all.extend(on_it.map(|bid| ExpandedBid { bid, item: item.clone(), seller }));
    }
    all
}
