//! Every renderer on one realistic board, on hostile text, and in a browser.

mod browser;
mod fixture;
mod hostile;
mod junit_xml;
mod leaderboard_text;
mod page;
mod verdict;
mod webdriver;
