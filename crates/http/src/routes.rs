//! Which RPC a method and a path mean.
//!
//! The table is `routes.txt`, one binding a line. It is made from the `google.api.http` annotations of Temporal's proto files, which
//! the descriptors that this workspace builds with do not carry; a test compares the two.

use std::collections::BTreeMap;

use http::Method;
use percent_encoding::percent_decode_str;
use prost_reflect::{DescriptorPool, FieldDescriptor, MethodDescriptor};

use crate::problem::Problem;
use crate::query::resolve;

/// The bindings, and how to make them again.
pub(crate) const TABLE: &str = include_str!("routes.txt");

/// All routes of a server.
#[derive(Debug)]
pub(crate) struct Routes {
    routes: Vec<Route>,
    /// By number of segments, those with literals first.
    by_length: BTreeMap<usize, Vec<usize>>,
}

/// One binding of an RPC.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) verb: Method,
    /// As the table has it.
    pub(crate) path: &'static str,
    segments: Vec<Segment>,
    pub(crate) rpc: MethodDescriptor,
    pub(crate) body: Body,
}

/// What the body of a request is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Not read; the query says what the path does not.
    None,
    /// The whole request but for what the path says.
    Whole,
    /// One field; the query says the rest.
    Field(FieldDescriptor),
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Literal(&'static str),
    /// The fields from the request down to the one that the segment sets.
    Field(Vec<FieldDescriptor>),
}

/// A route, and the texts of the fields that its path sets.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) route: &'a Route,
    pub(crate) fields: Vec<(&'a [FieldDescriptor], String)>,
}

impl Routes {
    /// The routes of the table.
    ///
    /// # Errors
    /// If a line does not fit the descriptors.
    pub(crate) fn new(pool: &DescriptorPool) -> Result<Self, String> {
        let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let routes: Vec<Route> = lines
            .map(|line| Route::new(pool, line).ok_or_else(|| format!("routes.txt: {line}")))
            .collect::<Result<_, _>>()?;
        let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, route) in routes.iter().enumerate() {
            by_length.entry(route.segments.len()).or_default().push(at);
        }
        for list in by_length.values_mut() {
            list.sort_by_key(|at| {
                routes[*at].segments.iter().map(|s| matches!(s, Segment::Field(_))).collect::<Vec<_>>()
            });
        }
        Ok(Self { routes, by_length })
    }

    pub(crate) fn all(&self) -> &[Route] {
        &self.routes
    }

    /// The route of a request; none if no route has the path.
    ///
    /// # Errors
    /// If routes have the path for other methods only, or a segment is no text.
    pub(crate) fn find(&self, verb: &Method, path: &str) -> Result<Option<Found<'_>>, Problem> {
        let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        let candidates = self.by_length.get(&segments.len()).into_iter().flatten().map(|at| &self.routes[*at]);
        let mut others = Vec::new();
        for route in candidates.filter(|route| route.has(&segments)) {
            if route.verb == *verb {
                return route.bind(&segments).map(Some);
            }
            others.push(route.verb.as_str());
        }
        if others.is_empty() {
            return Ok(None);
        }
        others.sort_unstable();
        others.dedup();
        Err(Problem::method_not_allowed(&others.join(", ")))
    }
}

impl Route {
    /// A line is a method, a path, an RPC, and the body if there is one.
    fn new(pool: &DescriptorPool, line: &'static str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (verb, path, rpc, body) = (words.next()?, words.next()?, words.next()?, words.next());
        let (service, method) = rpc.split_once('.')?;
        let package = format!("temporal.api.{}.v1.{service}", service.to_ascii_lowercase());
        let service = pool.get_service_by_name(&package)?;
        let rpc = service.methods().find(|candidate| candidate.name() == method)?;
        let request = rpc.input();
        let segment = |text: &'static str| match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            Some(name) => resolve(&request, name).map(Segment::Field),
            None => Some(Segment::Literal(text)),
        };
        let segments = path.strip_prefix('/')?.split('/').map(segment).collect::<Option<_>>()?;
        let body = match body {
            None => Body::None,
            Some("*") => Body::Whole,
            Some(name) => Body::Field(request.get_field_by_name(name)?),
        };
        Some(Self { verb: verb.parse().ok()?, path, segments, rpc, body })
    }

    /// The fields that the path sets.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &[FieldDescriptor]> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Field(fields) => Some(fields.as_slice()),
            Segment::Literal(_) => None,
        })
    }

    fn has(&self, segments: &[&str]) -> bool {
        let fits = |(own, given): (&Segment, &&str)| match own {
            Segment::Literal(text) => text == given,
            Segment::Field(_) => true,
        };
        self.segments.iter().zip(segments).all(fits)
    }

    fn bind(&self, segments: &[&str]) -> Result<Found<'_>, Problem> {
        let mut fields = Vec::new();
        for (own, given) in self.segments.iter().zip(segments) {
            if let Segment::Field(field) = own {
                fields.push((field.as_slice(), unescape(given)?));
            }
        }
        Ok(Found { route: self, fields })
    }
}

/// One segment of a path as the text that it stands for. An escaped slash is part of the text.
pub(crate) fn unescape(segment: &str) -> Result<String, Problem> {
    let text = percent_decode_str(segment).decode_utf8();
    Ok(text.map_err(|_| Problem::invalid(format!("{segment} is not UTF-8")))?.into_owned())
}

#[cfg(test)]
mod tests;
