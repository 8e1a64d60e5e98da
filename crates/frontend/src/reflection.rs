//! gRPC reflection, both versions: tools learn from the server what it speaks.
//!
//! Answered from the encoded descriptors that the `api` crate was generated from. A file is sent with everything that it imports, as
//! grpc-go does, so that a client needs one question. The index is made at the first question, since few servers are ever asked.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
use tonic::codegen::tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_reflection::pb;

/// What the port serves.
const SERVICES: [&str; 6] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "mainstay.admin.v1.AdminService",
    "temporal.api.operatorservice.v1.OperatorService",
    "temporal.api.workflowservice.v1.WorkflowService",
];

/// The reflection service. Clones share the index.
#[derive(Clone, Default)]
pub(crate) struct Reflection(Arc<OnceLock<Index>>);

/// Descriptors by what they are asked by.
#[derive(Default)]
struct Index {
    files: BTreeMap<String, File>,
    /// Full names of everything in them.
    symbols: BTreeMap<String, String>,
    /// By extended message and number.
    extensions: BTreeMap<(String, i32), String>,
}

struct File {
    encoded: Vec<u8>,
    imports: Vec<String>,
}

/// A question, of either version.
enum Asked {
    File(String),
    Symbol(String),
    Extension(String, i32),
    ExtensionNumbers(String),
    Services,
    Nothing,
}

/// Its answer.
enum Answered {
    Files(Vec<Vec<u8>>),
    Numbers(String, Vec<i32>),
    Services,
    Missing(String),
}

impl Index {
    fn new() -> Self {
        let mut index = Self::default();
        let sets = [mainstay_api::DESCRIPTOR_SET, pb::v1::FILE_DESCRIPTOR_SET, pb::v1alpha::FILE_DESCRIPTOR_SET];
        for set in sets {
            // They are parts of this binary; a test reads them.
            for file in FileDescriptorSet::decode(set).unwrap_or_default().file {
                index.add(&file);
            }
        }
        index
    }

    fn add(&mut self, file: &FileDescriptorProto) {
        let (name, package) = (file.name().to_owned(), file.package());
        let below = |parent: &str, name: &str| if parent.is_empty() { name.into() } else { format!("{parent}.{name}") };
        for message in &file.message_type {
            self.add_message(&name, package, message);
        }
        for kind in &file.enum_type {
            self.symbols.insert(below(package, kind.name()), name.clone());
            // A value is a name beside its enum.
            self.symbols.extend(kind.value.iter().map(|value| (below(package, value.name()), name.clone())));
        }
        for service in &file.service {
            let service_name = below(package, service.name());
            let methods = service.method.iter().map(|method| (below(&service_name, method.name()), name.clone()));
            self.symbols.extend(methods);
            self.symbols.insert(service_name, name.clone());
        }
        for field in &file.extension {
            self.symbols.insert(below(package, field.name()), name.clone());
            self.extensions.insert((field.extendee().trim_start_matches('.').into(), field.number()), name.clone());
        }
        let file = File { encoded: file.encode_to_vec(), imports: file.dependency.clone() };
        self.files.insert(name, file);
    }

    fn add_message(&mut self, file: &str, parent: &str, message: &DescriptorProto) {
        let name = if parent.is_empty() { message.name().into() } else { format!("{parent}.{}", message.name()) };
        let fields = message.field.iter().map(|field| (format!("{name}.{}", field.name()), file.to_owned()));
        self.symbols.extend(fields);
        for kind in &message.enum_type {
            self.symbols.insert(format!("{name}.{}", kind.name()), file.to_owned());
        }
        for nested in &message.nested_type {
            self.add_message(file, &name, nested);
        }
        self.symbols.insert(name, file.to_owned());
    }

    /// A file and all that it imports.
    fn with_imports(&self, name: &str) -> Option<Vec<Vec<u8>>> {
        self.files.get(name)?;
        let (mut found, mut seen, mut todo) = (Vec::new(), BTreeSet::new(), vec![name]);
        while let Some(name) = todo.pop() {
            if let Some(file) = self.files.get(name).filter(|_| seen.insert(name)) {
                found.push(file.encoded.clone());
                todo.extend(file.imports.iter().map(String::as_str));
            }
        }
        Some(found)
    }

    fn answer(&self, asked: &Asked) -> Answered {
        let file = |name: Option<&String>| name.and_then(|name| self.with_imports(name));
        let missing = |kind: &str, name: &str| Answered::Missing(format!("{kind} not found: {name}"));
        match asked {
            Asked::File(name) => file(Some(name)).map_or_else(|| missing("File", name), Answered::Files),
            Asked::Symbol(name) => {
                file(self.symbols.get(name)).map_or_else(|| missing("Symbol", name), Answered::Files)
            }
            Asked::Extension(message, number) => {
                let found = file(self.extensions.get(&(message.clone(), *number)));
                found.map_or_else(|| missing("Extension", &format!("{message} {number}")), Answered::Files)
            }
            Asked::ExtensionNumbers(message) if self.symbols.contains_key(message) => {
                let numbers = self.extensions.keys().filter(|(extended, _)| extended == message);
                Answered::Numbers(message.clone(), numbers.map(|(_, number)| *number).collect())
            }
            Asked::ExtensionNumbers(message) => missing("Message", message),
            Asked::Services => Answered::Services,
            Asked::Nothing => Answered::Missing("the request asks nothing".into()),
        }
    }
}

/// Answers as the questions come.
struct Answers<Q, A> {
    questions: Streaming<Q>,
    index: Arc<OnceLock<Index>>,
    answer: fn(&Index, Q) -> A,
}

impl<Q, A> Stream for Answers<Q, A> {
    type Item = Result<A, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.questions).poll_next(context);
        next.map(|next| next.map(|asked| asked.map(|asked| (self.answer)(self.index.get_or_init(Index::new), asked))))
    }
}

/// Both versions have the same messages in different packages.
macro_rules! version {
    ($version:ident) => {
        #[tonic::async_trait]
        impl pb::$version::server_reflection_server::ServerReflection for Reflection {
            type ServerReflectionInfoStream =
                Pin<Box<dyn Stream<Item = Result<pb::$version::ServerReflectionResponse, Status>> + Send>>;

            async fn server_reflection_info(
                &self,
                request: Request<Streaming<pb::$version::ServerReflectionRequest>>,
            ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
                use pb::$version::server_reflection_request::MessageRequest as M;
                use pb::$version::server_reflection_response::MessageResponse as R;
                let answer = |index: &Index, request: pb::$version::ServerReflectionRequest| {
                    let asked = match request.message_request.clone() {
                        Some(M::FileByFilename(name)) => Asked::File(name),
                        Some(M::FileContainingSymbol(name)) => Asked::Symbol(name),
                        Some(M::FileContainingExtension(e)) => Asked::Extension(e.containing_type, e.extension_number),
                        Some(M::AllExtensionNumbersOfType(name)) => Asked::ExtensionNumbers(name),
                        Some(M::ListServices(_)) => Asked::Services,
                        None => Asked::Nothing,
                    };
                    let answered = match index.answer(&asked) {
                        Answered::Files(file_descriptor_proto) => {
                            R::FileDescriptorResponse(pb::$version::FileDescriptorResponse { file_descriptor_proto })
                        }
                        Answered::Numbers(base_type_name, extension_number) => {
                            let numbers = pb::$version::ExtensionNumberResponse { base_type_name, extension_number };
                            R::AllExtensionNumbersResponse(numbers)
                        }
                        Answered::Services => {
                            let named = |name: &str| pb::$version::ServiceResponse { name: name.into() };
                            let service = SERVICES.into_iter().map(named).collect();
                            R::ListServicesResponse(pb::$version::ListServiceResponse { service })
                        }
                        Answered::Missing(error_message) => R::ErrorResponse(pb::$version::ErrorResponse {
                            error_code: Code::NotFound as i32,
                            error_message,
                        }),
                    };
                    pb::$version::ServerReflectionResponse {
                        valid_host: request.host.clone(),
                        original_request: Some(request),
                        message_response: Some(answered),
                    }
                };
                let (questions, index) = (request.into_inner(), Arc::clone(&self.0));
                Ok(Response::new(Box::pin(Answers { questions, index, answer })))
            }
        }
    };
}

version!(v1);
version!(v1alpha);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_described_with_all_it_needs() {
        let index = Index::new();
        for service in SERVICES {
            let Answered::Files(files) = index.answer(&Asked::Symbol(service.into())) else { panic!("{service}") };
            let files: Vec<_> = files.iter().map(|f| FileDescriptorProto::decode(f.as_slice()).unwrap()).collect();
            let names: BTreeSet<&str> = files.iter().map(|file| file.name()).collect();
            for import in files.iter().flat_map(|file| &file.dependency) {
                assert!(names.contains(import.as_str()), "{service} needs {import}");
            }
        }
    }

    #[test]
    fn names_of_every_kind_are_found() {
        let index = Index::new();
        for name in [
            "temporal.api.common.v1.Payload",
            "temporal.api.common.v1.Payload.data",
            "temporal.api.enums.v1.EventType",
            "temporal.api.workflowservice.v1.WorkflowService.StartWorkflowExecution",
        ] {
            assert!(matches!(index.answer(&Asked::Symbol(name.into())), Answered::Files(_)), "{name}");
        }
        assert!(matches!(index.answer(&Asked::Symbol("no.Such".into())), Answered::Missing(_)));
        let http = Asked::Extension("google.protobuf.MethodOptions".into(), 72_295_728);
        assert!(matches!(index.answer(&http), Answered::Files(_)));
    }
}
